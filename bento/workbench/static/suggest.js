// Search as you type: a combobox whose options the server renders (ARIA's editable combobox with
// list autocomplete). A picked option is followed if it has an address; with data-pick="fill" the
// field takes its value instead, and with data-pick="submit" the form is sent with it, too.

const DEBOUNCE_MS = 60;
let count = 0;

export function suggest(input) {
  const id = `options-${++count}`;
  const list = document.createElement("ul");
  Object.assign(list, { id, className: "options", hidden: true });
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Products found");
  const status = document.createElement("span");
  status.className = "unseen";
  status.setAttribute("role", "status");
  input.after(list, status);
  for (const [name, value] of Object.entries({
    role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": id,
  })) input.setAttribute(name, value);

  const options = () => [...list.querySelectorAll('[role="option"]')];
  let timer = 0;
  let asked = 0;

  function show(isShown) {
    list.hidden = !isShown;
    input.setAttribute("aria-expanded", String(isShown));
    if (!isShown) mark(null);
  }

  function mark(option) {
    for (const one of options()) one.setAttribute("aria-selected", String(one === option));
    if (option) input.setAttribute("aria-activedescendant", option.id);
    else input.removeAttribute("aria-activedescendant");
    option?.scrollIntoView({ block: "nearest" });
  }

  async function search() {
    const question = ++asked;
    const text = input.value.trim();
    if (!text) return show(false);
    const url = new URL(input.dataset.suggest, location.href);
    url.searchParams.set("q", text);
    const answer = await fetch(url).catch(() => null);
    const html = answer?.ok ? await answer.text() : null;
    // An answer that was overtaken by a later key is void.
    if (question !== asked || document.activeElement !== input) return;
    list.innerHTML = html ?? '<li class="none">The search does not answer.</li>';
    options().forEach((option, i) => { option.id = `${id}-${i}`; });
    status.textContent = list.querySelector(".none")?.textContent ?? `${options().length} found`;
    show(true);
  }

  function pick(option) {
    asked++;
    clearTimeout(timer);
    show(false);
    if (!input.dataset.pick && option.dataset.href) {
      location.assign(option.dataset.href);
      return;
    }
    input.value = option.dataset.value;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    if (input.dataset.pick === "submit") input.form.requestSubmit();
  }

  function move(step) {
    const all = options();
    const at = all.findIndex((one) => one.getAttribute("aria-selected") === "true");
    const next = at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step;
    mark(all[next] ?? null);
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, DEBOUNCE_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) search();
      else move(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Enter" && input.hasAttribute("aria-activedescendant")) {
      event.preventDefault();
      pick(document.getElementById(input.getAttribute("aria-activedescendant")));
    } else if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      show(false);
    }
  });
  input.addEventListener("focus", () => input.value.trim() && list.children.length && show(true));
  input.addEventListener("blur", () => { asked++; show(false); });
  // A press must not take the focus, or the list were gone before the click.
  list.addEventListener("pointerdown", (event) => event.preventDefault());
  list.addEventListener("pointermove", (event) => {
    const option = event.target.closest('[role="option"]');
    if (option) mark(option);
  });
  list.addEventListener("click", (event) => {
    const option = event.target.closest('[role="option"]');
    if (option) pick(option);
  });
}
