"""A shop, in a pod: asks for companions at a steady rate and says every second who answered.

`python traffic.py URL REQUESTS_A_SECOND SECONDS TRIES`, in the service's image. Every request has a
connection of its own, so that the cluster spreads them over pods. One line a second:
`{"at": seconds of the epoch, "answers": {version or kind of failure: count}, "slowest_s": …,
"again": number of second tries}`.
"""

import json
import random
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict

PRODUCTS = ("tea", "coffee", "bread", "pasta")
ASKERS = 8
TIMEOUT_S = 5.0
BACKOFF_S = 0.1
"""As bento.retry."""


def ask(url: str, product_id: str) -> str:
    """The version that answered, or the status or error instead."""
    body = json.dumps({"items": [product_id], "k": 2}).encode()
    headers = {"Content-Type": "application/json", "Connection": "close"}
    try:
        request = urllib.request.Request(f"{url}/recommend", body, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return str(json.load(response)["model_version"])
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except OSError as error:
        return f"none: {error}"


class Shop:
    def __init__(self, url: str, rate: float, tries: int) -> None:
        self.url, self.rate, self.tries = url, rate, tries
        self.again: Counter[int] = Counter()
        self.answers: dict[int, Counter[str]] = defaultdict(Counter)
        self.slowest_s: dict[int, float] = defaultdict(float)
        self.lock = threading.Lock()

    def visit(self, number: int, until: float) -> None:
        due = time.time() + number / self.rate
        while due < until:
            time.sleep(max(0.0, due - time.time()))
            began = time.time()
            version, tries = self.ask_again(PRODUCTS[number % len(PRODUCTS)])
            with self.lock:
                second = int(began)
                self.again[second] += tries - 1
                self.answers[second][version] += 1
                self.slowest_s[second] = max(self.slowest_s[second], time.time() - began)
            due = max(due + ASKERS / self.rate, began)

    def ask_again(self, product_id: str) -> tuple[str, int]:
        """The answer, and the number of tries."""
        for tries in range(1, self.tries + 1):
            version = ask(self.url, product_id)
            if version.isdigit() or tries == self.tries:
                break
            time.sleep(random.uniform(0, BACKOFF_S))
        return version, tries

    def report(self, until: float) -> None:
        """A second is over once its slowest request can be."""
        second = int(time.time())
        while second < until:
            time.sleep(max(0.0, second + 1 + TIMEOUT_S * self.tries - time.time()))
            with self.lock:
                answers, slowest = dict(self.answers[second]), self.slowest_s[second]
            line = {"at": second, "answers": answers, "slowest_s": round(slowest, 3)}
            line["again"] = self.again[second]
            print(json.dumps(line), flush=True)
            second += 1


def main() -> None:
    url, rate, seconds, tries = sys.argv[1:]
    shop, until = Shop(url, float(rate), int(tries)), time.time() + float(seconds)
    for number in range(ASKERS):
        threading.Thread(target=shop.visit, args=(number, until), daemon=True).start()
    shop.report(until)


if __name__ == "__main__":
    main()
