// The overall comparison shows its progress until it is done.
const part = document.querySelector("[data-part]");

async function poll() {
  if (!part?.querySelector("[data-pending]")) return;
  await new Promise((resolve) => setTimeout(resolve, 500));
  const answer = await fetch(part.dataset.part + location.search).catch(() => null);
  if (answer?.status === 200) part.innerHTML = await answer.text();
  poll();
}
poll();
