// What all pages share: changes by fetch, search as you type, menus, pictures, recovery.
import { suggest } from "./suggest.js";

export function post(url, body) {
  const csrf = document.querySelector('meta[name="csrf"]').content;
  const form = body instanceof FormData ? body : new URLSearchParams(body);
  return fetch(url, { method: "POST", headers: { "X-CSRF-Token": csrf }, body: form });
}

export function isTyping(event) {
  const { target } = event;
  return target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
}

for (const input of document.querySelectorAll("[data-suggest]")) suggest(input);

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !isTyping(event)) {
    event.preventDefault();
    document.querySelector('[aria-keyshortcuts="/"]')?.select();
  }
  const menu = event.key === "Escape" && document.querySelector(".menu[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll(".menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// A panel that would leave the page opens to the other side.
document.addEventListener("toggle", ({ target: menu }) => {
  if (!menu.matches?.(".menu")) return;
  menu.classList.remove("opens-to-end");
  const { left } = menu.lastElementChild.getBoundingClientRect();
  menu.classList.toggle("opens-to-end", menu.open && left < 0);
}, true);

// A picture that cannot be loaded gives way to the initials behind it.
document.addEventListener("error", ({ target }) => {
  if (target.matches?.(".picture img")) target.remove();
}, true);
for (const image of document.querySelectorAll(".picture img")) {
  if (image.complete && !image.naturalWidth) image.remove();
}

// The page is loaded again once it can be answered; until then the present one stays.
async function retry(waitMs) {
  await new Promise((resolve) => setTimeout(resolve, waitMs));
  const answer = await fetch(location.href).catch(() => null);
  const isComplete = answer?.status < 500 && !(await answer.text()).includes("data-retry");
  if (isComplete && !document.activeElement?.value) location.reload();
  else retry(Math.min(waitMs * 1.5, 15000));
}
if (document.querySelector("[data-retry]")) retry(2000);
