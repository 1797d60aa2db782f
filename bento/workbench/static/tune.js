// Settings act as they are moved: the state goes to the URL, and the parts of the page follow it.
const form = document.getElementById("settings");
const parts = [...document.querySelectorAll("[data-part]")];
let timer = 0;
let asked = 0;

function readState() {
  const state = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    const dial = form.elements[name];
    if (value !== "" && !(dial.dataset?.present !== undefined && Number(dial.dataset.present) === Number(value))) {
      state.append(name, value);
    }
  }
  return state;
}

async function refresh(isQuiet = false) {
  // A field that somebody writes in is not taken away for a figure.
  if (isQuiet && document.activeElement?.closest("[data-part]")) return follow();
  const question = ++asked;
  const query = readState();
  history.replaceState(null, "", `/tune?${query}`);
  await Promise.all(parts.map(async (part) => {
    if (!isQuiet) part.setAttribute("aria-busy", "true");
    const answer = await fetch(`${part.dataset.part}?${query}`).catch(() => null);
    const html = answer ? await answer.text() : "";
    if (question !== asked) return;
    part.removeAttribute("aria-busy");
    if (answer?.status === 200) part.innerHTML = html;
    else location.reload();
  }));
  follow();
}

// What takes longer than a page should comes after it.
function follow() {
  if (!document.querySelector("[data-pending]")) return;
  clearTimeout(timer);
  timer = setTimeout(refresh, 700, true);
}
follow();

form.addEventListener("input", ({ target }) => {
  const output = target.type === "range" && form.querySelector(`output[for="${target.id}"]`);
  if (output) output.value = target.value;
  clearTimeout(timer);
  if (target.name === "version") form.requestSubmit();
  else timer = setTimeout(refresh, 120);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  location.assign(`/tune?${readState()}`);
});
for (const one of form.querySelectorAll("[data-scriptless]")) one.hidden = true;

document.addEventListener("click", async ({ target }) => {
  const source = target.closest?.("[data-copy]");
  if (!source) return;
  await navigator.clipboard.writeText(document.getElementById(source.dataset.copy).textContent.trim());
  source.textContent = "Copied";
});
