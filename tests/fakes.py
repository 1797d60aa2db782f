"""Two fakes, and they say so: in-process HTTP servers that behave like Kubernetes and MLflow where
it matters to the promoter, so that they can be made to fail at will.

The promoter reaches them by HTTP, as it reaches the real ones. What is real
elsewhere: `tests/cluster` runs the same tests against a real API server, `tests/service` uses a
real MLflow server.
"""

import copy
import hashlib
import json
import re
import threading
import time
import urllib.parse
import uuid
from collections import deque
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

OK, AWAY, LOST, BROKEN = "ok", "away", "lost", "broken"
"""What may become of a request: answered; not heard; heard, but the answer is lost; a 500."""


class FakeServer:
    """HTTP on a free port of loopback; every request takes the next of `faults`, or is answered."""

    def __init__(self):
        self.faults = deque()
        self.down = False
        self.lock = threading.RLock()
        self.requests = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def handle_any(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                address = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(address.query))
                fault = fake.next_fault(self.command, address.path)
                if fault == AWAY:
                    self.close_connection = True
                    return
                if fault == BROKEN:
                    return self.answer(500, {"message": "etcdserver: request timed out"})
                with suppress(ConnectionError):
                    kind = self.headers.get("Content-Type", "")
                    answer = fake.answer(self, self.command, address.path, query, body, kind)
                    if fault == LOST:
                        self.close_connection = True
                    elif answer is not None:
                        self.answer(*answer)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def answer(self, status, content):
                raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)
                self.wfile.flush()

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def next_fault(self, method, path):
        with self.lock:
            self.requests.append((method, path))
            if self.down:
                return AWAY
            return self.faults.popleft() if self.faults else OK

    @contextmanager
    def running(self):
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            self.http.shutdown()
            self.http.server_close()


class Refusal(Exception):
    def __init__(self, status, reason):
        super().__init__(reason)
        self.status, self.reason = status, reason


class FakeKubernetes(FakeServer):
    """An API server with optimistic locking, generations, status subresources and watches.

    `settle` is its Deployment controller, which acts only then: until it does, statuses are old.
    """

    WITH_STATUS = ("deployments", "rollouts", "pods", "replicasets")

    def __init__(self):
        super().__init__()
        self.objects = {}
        self.version = 0
        self.history = []
        self.forgotten = 0
        self.absent_kinds = set()
        self.before_write = None

    def answer(self, handler, method, path, query, body, kind):
        found = re.fullmatch(
            r"/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/([^/]+))?/([a-z]+)"
            r"(?:/([^/]+))?(?:/(status|scale))?",
            path,
        )
        if not found or found[2] in self.absent_kinds:
            return 404, {"message": "the server could not find the requested resource"}
        namespace, plural, name, part = found.groups()
        if query.get("watch"):
            return self.stream(handler, plural, query)
        try:
            with self.lock:
                if method != "GET" and self.before_write:
                    hook, self.before_write = self.before_write, None
                    hook()
                given = json.loads(body) if body else None
                return 200, self.act(method, (namespace, plural, name), part, given, query, kind)
        except Refusal as refusal:
            return refusal.status, {"message": refusal.reason, "code": refusal.status}

    def act(self, method, key, part, given, query, kind):
        if method == "GET" and key[2] is None:
            return {"items": self.listed(key, query.get("labelSelector", ""))}
        if method == "POST":
            return self.create(key, given)
        present = self.objects.get(key)
        if present is None:
            raise Refusal(404, f"{key[1]} {key[2]!r} not found")
        if method == "GET":
            return copy.deepcopy(present)
        if method == "DELETE":
            del self.objects[key]
            self.happened("DELETED", key, present)
            return {"status": "Success"}
        wanted = (given.get("metadata") or {}).get("resourceVersion")
        if wanted not in (None, present["metadata"]["resourceVersion"]):
            raise Refusal(409, "the object has been modified; please apply your changes")
        if method == "PATCH":
            given = merged(present, given, strategic="strategic" in kind)
        return self.store(key, present, given, part)

    def listed(self, key, selector):
        label, _, value = selector.partition("=")
        if not label:
            of_kind = [one for found, one in sorted(self.objects.items()) if found[:2] == key[:2]]
            return copy.deepcopy(of_kind)
        of_kind = [one for found, one in sorted(self.objects.items()) if found[:2] == key[:2]]
        labels = [one["metadata"].get("labels") or {} for one in of_kind]
        matches = [label in has and value in ("", has[label]) for has in labels]
        return copy.deepcopy([one for one, ok in zip(of_kind, matches, strict=True) if ok])

    def create(self, key, given):
        key = (*key[:2], given["metadata"]["name"])
        if key in self.objects:
            raise Refusal(409, f"{key[1]} {key[2]!r} already exists")
        made = copy.deepcopy(given)
        if key[1] in self.WITH_STATUS:
            made.pop("status", None)
        made["metadata"] |= {"uid": str(uuid.uuid4()), "namespace": key[0], "generation": 1}
        if key[1] == "deployments":
            made["spec"].setdefault("replicas", 1)
        return self.written("ADDED", key, made)

    def store(self, key, present, given, part):
        new = copy.deepcopy(given)
        if key[1] in self.WITH_STATUS:
            # Status and the rest are written through different doors.
            if part == "status":
                new = {**copy.deepcopy(present), "status": new.get("status", {})}
            elif "status" in present:
                new["status"] = present["status"]
            else:
                new.pop("status", None)
        own = {name: present["metadata"][name] for name in ("uid", "namespace", "generation")}
        new["metadata"] = {**new["metadata"], **own}
        if new.get("spec") != present.get("spec"):
            new["metadata"]["generation"] += 1
        if {**new, "metadata": {**new["metadata"], "resourceVersion": ""}} == {
            **present,
            "metadata": {**present["metadata"], "resourceVersion": ""},
        }:
            return copy.deepcopy(present)
        return self.written("MODIFIED", key, new)

    def written(self, event, key, made):
        self.version += 1
        made["metadata"]["resourceVersion"] = str(self.version)
        self.objects[key] = made
        self.happened(event, key, made)
        return copy.deepcopy(made)

    def happened(self, event, key, found):
        self.history.append((self.version, key, event, copy.deepcopy(found)))

    def stream(self, handler, plural, query):
        """Chunks of one JSON line, until the watch's time is over or `cut_watches` was called."""
        name = query.get("fieldSelector", "").removeprefix("metadata.name=")
        until = time.monotonic() + float(query["timeoutSeconds"])
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        seen, cuts = len(self.history), self.forgotten
        while time.monotonic() < until and not self.down:
            if self.forgotten != cuts:
                gone = {"code": 410, "reason": "Expired", "message": "too old resource version"}
                chunk(handler, {"type": "ERROR", "object": gone})
                break
            for _, key, event, found in self.history[seen:]:
                if key[1] == plural and key[2] == name:
                    chunk(handler, {"type": event, "object": found})
            seen = len(self.history)
            time.sleep(0.02)
        else:
            if self.down:
                handler.close_connection = True
                return None
        handler.wfile.write(b"0\r\n\r\n")
        handler.wfile.flush()
        return None

    def forget_the_past(self):
        """Every watch gets 410 Gone."""
        self.forgotten += 1

    def settle(self):
        """One round of the Deployment controller, for every Deployment with pods of its own."""
        with self.lock:
            for key in [key for key in self.objects if key[1] == "deployments"]:
                self.roll(key)

    def roll(self, key):
        deployment = self.objects[key]
        namespace, _, name = key
        template, wanted = deployment["spec"]["template"], deployment["spec"]["replicas"]
        hash_ = hash_of(template)
        pods = {k: p for k, p in self.objects.items() if k[:2] == (namespace, "pods")}
        new = {
            k: p for k, p in pods.items() if p["metadata"]["labels"]["pod-template-hash"] == hash_
        }
        for number in range(len(new), wanted):
            pod_key = (namespace, "pods", f"{name}-{hash_}-{number}-{uuid.uuid4().hex[:5]}")
            pod = copy.deepcopy(template)
            pod.setdefault("metadata", {})["name"] = pod_key[2]
            pod["metadata"]["labels"]["pod-template-hash"] = hash_
            new[pod_key] = pods[pod_key] = self.create(pod_key, pod)
        ready_new = [k for k, pod in new.items() if is_ready(pod)]
        if len(ready_new) >= wanted:
            for old in set(pods) - set(new):
                del self.objects[old]
                del pods[old]
        old_status = deployment.get("status", {})
        progressed = old_status.get("_hash") != hash_ or len(ready_new) != old_status.get("_ready")
        at = time.monotonic() if progressed else old_status["_at"]
        late = time.monotonic() - at > deployment["spec"].get("progressDeadlineSeconds", 600)
        condition = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
        if len(ready_new) < wanted:
            condition["reason"] = "ReplicaSetUpdated"
            if late:
                condition |= {
                    "status": "False",
                    "reason": "ProgressDeadlineExceeded",
                    "message": f'ReplicaSet "{name}-{hash_}" has timed out progressing.',
                }
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(pods),
            "updatedReplicas": len(new),
            "availableReplicas": sum(map(is_ready, pods.values())),
            "conditions": [condition],
            **{"_hash": hash_, "_ready": len(ready_new), "_at": at},
        }
        self.store(key, deployment, {**deployment, "status": status}, "status")


def chunk(handler, event):
    line = json.dumps(event).encode() + b"\n"
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
    handler.wfile.flush()


def is_ready(pod):
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def hash_of(template):
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def merged(present, patch, strategic=False):
    """JSON merge patch; strategic: lists of named things are merged by their names."""
    if not isinstance(patch, dict):
        if strategic and is_named(patch) and is_named(present):
            by_name = {one["name"]: one for one in present}
            by_name |= {one["name"]: merged(by_name.get(one["name"]), one, True) for one in patch}
            return list(by_name.values())
        return copy.deepcopy(patch)
    result = copy.deepcopy(present) if isinstance(present, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value, strategic)
    return result


def is_named(value):
    return isinstance(value, list) and all(isinstance(v, dict) and "name" in v for v in value)


class FakeMlflow(FakeServer):
    """A registry of one model whose versions are folders of files."""

    def __init__(self, bundle, model="fbt"):
        super().__init__()
        self.model, self.bundle = model, bundle
        self.aliases, self.tags, self.versions, self.bundles = {}, {}, {}, {}

    def add(self, verdict="passed", **tags):
        version = str(len(self.versions) + 1)
        self.versions[version] = {"fbt.verdict": verdict, "fbt.rollout": "registered", **tags}
        self.bundles[version] = self.bundle
        return version

    def answer(self, handler, method, path, query, body, kind):
        with self.lock:
            given = json.loads(body) if body else query
            call = path.removeprefix("/api/2.0/mlflow/")
            found = getattr(self, re.sub(r"\W", "_", f"{method}_{call.strip('/')}"), None)
            try:
                if found is None:
                    raise Refusal(404, f"the fake has no {method} {path}")
                return 200, found(given)
            except Refusal as refusal:
                text = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": refusal.reason}
                return refusal.status, text

    def GET_registered_models_search(self, given):
        if not self.versions:
            return {}
        aliases = [{"alias": a, "version": v} for a, v in self.aliases.items()]
        tags = [{"key": k, "value": v} for k, v in self.tags.items()]
        return {"registered_models": [{"name": self.model, "aliases": aliases, "tags": tags}]}

    def GET_model_versions_search(self, given):
        return {"model_versions": [self.described(one) for one in self.versions]}

    def GET_model_versions_get(self, given):
        return {"model_version": self.described(given["version"])}

    def described(self, version):
        if version not in self.versions:
            raise Refusal(404, f"no version {version}")
        tags = [{"key": k, "value": v} for k, v in self.versions[version].items()]
        return {
            "name": self.model,
            "version": version,
            "creation_timestamp": 1_700_000_000_000,
            "run_id": f"run{version}",
            "status": "READY",
            "tags": tags,
        }

    def POST_registered_models_set_tag(self, given):
        self.tags[given["key"]] = given["value"]
        return {}

    def DELETE_registered_models_delete_tag(self, given):
        self.tags.pop(given["key"], None)
        return {}

    def POST_registered_models_alias(self, given):
        self.aliases[given["alias"]] = given["version"]
        return {}

    def POST_model_versions_set_tag(self, given):
        self.versions[given["version"]][given["key"]] = given["value"]
        return {}

    def DELETE_model_versions_delete_tag(self, given):
        self.versions[given["version"]].pop(given["key"], None)
        return {}

    def GET_artifacts_list(self, given):
        folder = self.bundles.get(given["run_id"].removeprefix("run"))
        files = sorted(Path(folder).iterdir()) if folder else []
        return {"files": [{"path": f"bundle/{file.name}", "is_dir": False} for file in files]}

    def GET_model_versions_get_artifact(self, given):
        file = Path(self.bundles[given["version"]] or "/nowhere") / given["path"]
        if not file.is_file():
            raise Refusal(404, "No such artifact")
        return file.read_bytes()
