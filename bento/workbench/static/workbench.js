// What all pages share: changes by fetch carry the CSRF token; an error page tries again.

export function post(url, body) {
  const csrf = document.querySelector('meta[name="csrf"]').content;
  const form = body instanceof FormData ? body : new URLSearchParams(body);
  return fetch(url, { method: "POST", headers: { "X-CSRF-Token": csrf }, body: form });
}

if (document.querySelector("[data-retry]")) setTimeout(() => location.reload(), 3000);
