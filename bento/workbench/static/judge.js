// Judging by keys. What a judge does is kept in the browser until the server has saved it.
import { isTyping, post } from "./workbench.js";

const RETRY_MS = [500, 1000, 2000, 4000, 8000];
const find = (selector) => document.querySelector(selector);
const root = () => find("#judging");
const slot = `judging ${root().dataset.case} ${root().dataset.judge}`;
const isDone = (state) => state !== "none" && state !== "later";

let pending = load("pending");
let undone = load("undo");
let sending = null;
let acting = Promise.resolve();

function load(name) {
  try {
    return JSON.parse(localStorage.getItem(`${slot} ${name}`)) ?? [];
  } catch {
    return [];
  }
}

function keep() {
  try {
    localStorage.setItem(`${slot} pending`, JSON.stringify(pending));
    localStorage.setItem(`${slot} undo`, JSON.stringify(undone.slice(-50)));
  } catch {
    // A browser without storage: what is not saved lives as long as the page.
  }
  if (find("#undo")) find("#undo").hidden = !undone.length;
}

function say(text, isBad = false) {
  const place = find("#saved");
  place.textContent = text;
  place.classList.toggle("bad", isBad);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function send(path, body) {
  pending.push({ path, body });
  keep();
  sending ??= sendAll().finally(() => { sending = null; });
}

async function sendAll() {
  let tries = 0, isRenewed = false;
  while (pending.length) {
    if (!tries) say("Saving …");
    const { path, body } = pending[0];
    const answer = await post(path, body).catch(() => null);
    // A server that was started anew has other tokens.
    const isOutdated = answer?.status === 403 && !isRenewed;
    if (isOutdated && (isRenewed = await renewToken())) continue;
    if (!answer || answer.status >= 500 || isOutdated) {
      say(`Not saved yet: kept here, sent again (${pending.length})`, true);
      await pause(RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
      continue;
    }
    pending.shift();
    [tries, isRenewed] = [0, false];
    keep();
    if (!answer.ok || answer.redirected) {
      say(`Refused: ${await explain(answer)}`, true);
      return;
    }
  }
  say("Saved");
}

async function renewToken() {
  const page = await fetch(location.href).then((answer) => answer.text()).catch(() => "");
  return takeToken(new DOMParser().parseFromString(page, "text/html"));
}

function takeToken(page) {
  const token = page.querySelector('meta[name="csrf"]')?.content;
  if (token) find('meta[name="csrf"]').content = token;
  return Boolean(token);
}

async function explain(answer) {
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return page.querySelector('[role="alert"]')?.textContent ?? `status ${answer.status}`;
}

// Grades

const lists = () => [...document.querySelectorAll('#judging[data-mode="grades"] .list')];

function currentList() {
  return document.activeElement.closest?.(".list") ?? lists().find((one) => !isDone(one.dataset.state)) ?? lists()[0];
}

function setGrade(list, state) {
  const reason = list.querySelector("select").value;
  const body = Object.fromEntries(new FormData(list.querySelector("form")));
  undone.push({
    path: list.querySelector("form").getAttribute("action"), here: root().dataset.here,
    body: { ...body, grade: list.dataset.state, reason: list.dataset.reason ?? reason },
  });
  showState(list, state);
  list.dataset.reason = reason;
  send(list.querySelector("form").getAttribute("action"), { ...body, grade: state, reason });
}

function showState(list, state) {
  const change = isDone(state) - isDone(list.dataset.state);
  list.dataset.state = state;
  for (const button of list.querySelectorAll("[name=grade]")) {
    button.setAttribute("aria-pressed", button.value === state);
  }
  count(change);
}

function count(change) {
  find("#progress").value += change;
  find("#judged").textContent = find("#progress").value;
}

function press(button, isByMouse) {
  const list = button.closest(".list");
  setGrade(list, button.getAttribute("aria-pressed") === "true" ? "none" : button.value);
  // Else Enter, which goes to the next page, would press the button again.
  if (isByMouse) list.focus();
}

function gradeByKey(state) {
  const list = currentList();
  if (!list) return;
  setGrade(list, state);
  const later = lists().slice(lists().indexOf(list) + 1);
  const open = [...later, ...lists()].find((one) => one.dataset.state === "none");
  (open ?? list).focus();
}

function move(step) {
  const all = lists();
  all[(all.indexOf(currentList()) + step + all.length) % all.length]?.focus();
}

function openReasons() {
  const select = currentList()?.querySelector("select");
  select?.focus();
  try {
    select?.showPicker();
  } catch {
    // An older browser opens it by the arrow keys.
  }
}

// A or B

function prefer(button) {
  const form = find("form.pair");
  if (!form || !button) return;
  const buttons = [...form.querySelectorAll("[name=preferred]")];
  const before = buttons.find((one) => one.getAttribute("aria-pressed") === "true");
  const body = { ...Object.fromEntries(new FormData(form)), preferred: button.value };
  undone.push({ path: form.getAttribute("action"), here: root().dataset.here,
    body: { ...body, preferred: before ? before.value : "none" } });
  for (const one of buttons) one.setAttribute("aria-pressed", one === button);
  if (!before) count(1);
  send(form.getAttribute("action"), body);
  return root().dataset.next && go(root().dataset.next);
}

// Pages

async function go(address, isNew = true) {
  await Promise.race([sending, pause(1500)]);
  const answer = await fetch(address).catch(() => null);
  if (!answer || answer.status >= 500) {
    say("The next page cannot be loaded yet; what you judged is kept. Try again.", true);
    return;
  }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (!page.querySelector("#judging")) {
    location.href = address;
    return;
  }
  if (isNew) history.pushState(null, "", answer.url);
  takeToken(page);
  document.title = page.title;
  const text = find("#saved").textContent;
  root().replaceWith(page.querySelector("#judging"));
  say(text, pending.length > 0);
  show();
  window.scrollTo(0, 0);
}

function goNext() {
  const next = find("#next");
  return next && go(next.getAttribute("href"));
}

function undo() {
  const last = undone.pop();
  keep();
  if (!last) return;
  const mode = root().dataset.mode;
  send(last.path, last.body);
  say("Undone");
  const address = mode === "ab" ? `?mode=ab&page=${last.here}` : `?page=${last.here}`;
  return go(address, last.here !== root().dataset.here);
}

// What is not saved yet is shown all the same.
function show() {
  for (const { body } of pending) {
    const list = lists().find((one) => one.dataset.content === body.content
      && one.querySelector("[name=page]").value === body.page);
    if (list && list.dataset.state !== body.grade) showState(list, body.grade);
  }
  for (const list of lists()) list.dataset.reason = list.querySelector("select").value;
  keep();
  const open = lists().find((one) => one.dataset.state === "none") ?? lists()[0];
  open?.focus({ preventScroll: true });
}

const KEYS = {
  grades: {
    ArrowLeft: () => move(-1), ArrowRight: () => move(1), r: openReasons, z: undo, Enter: goNext,
    u: () => gradeByKey("unrateable"), l: () => gradeByKey("later"),
    ...Object.fromEntries([0, 1, 2, 3].map((grade) => [grade, () => gradeByKey(String(grade))])),
  },
  ab: {
    ArrowLeft: () => prefer(document.querySelectorAll("form.pair .list [name=preferred]")[0]),
    ArrowRight: () => prefer(document.querySelectorAll("form.pair .list [name=preferred]")[1]),
    ArrowDown: () => prefer(find("form.pair .equal")), z: undo, Enter: goNext,
  },
};

// Keys that are pressed while the next page loads are meant for that page.
function act(action) {
  acting = acting.then(action).catch((error) => say(String(error), true));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
  if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
  const action = KEYS[root().dataset.mode][event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  act(action);
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("#judging button, #judging nav a");
  if (!button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const isPage = button.matches("nav a") && button.getAttribute("href").startsWith("?");
  if (!isPage && !button.matches("[name=grade], [name=preferred], #undo")) return;
  event.preventDefault();
  if (isPage) act(() => go(button.getAttribute("href")));
  else if (button.id === "undo") act(undo);
  else if (button.name === "preferred") act(() => prefer(button));
  else press(button, event.detail > 0);
});

document.addEventListener("change", (event) => {
  const list = event.target.closest("#judging .list");
  if (!list) return;
  if (list.dataset.state !== "none") setGrade(list, list.dataset.state);
  list.focus();
});

window.addEventListener("popstate", () => act(() => go(location.href, false)));
window.addEventListener("beforeunload", (event) => { if (pending.length) event.preventDefault(); });
if (pending.length) sending ??= sendAll().finally(() => { sending = null; });
show();
