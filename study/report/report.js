"use strict";
// Links open what they lead to, print opens everything, and the page of a study that runs loads
// itself again and keeps what was open, and where the reader was.
const parts = [...document.querySelectorAll("details")];
const { reload, written } = document.body.dataset;

function show(hash) {
  const target = hash && document.getElementById(decodeURIComponent(hash.slice(1)));
  for (let part = target; part; part = part.parentElement) {
    if (part.tagName === "DETAILS") part.open = true;
  }
  if (target) target.scrollIntoView();
}
for (const link of document.querySelectorAll('a[href^="#"]')) {
  link.addEventListener("click", () => show(link.hash));
}

const all = document.getElementById("all");
all.hidden = false;
all.addEventListener("click", () => {
  const open = parts.some((part) => !part.open);
  for (const part of parts) part.open = open;
  all.textContent = open ? "Close all" : "Open all";
});

let opened = [];
addEventListener("beforeprint", () => {
  opened = parts.filter((part) => !part.open);
  for (const part of opened) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of opened) part.open = false;
});

// Numbers in a title change while a study runs.
const title = (part) => part.firstElementChild.textContent.replace(/\d+/g, "");
const key = `report ${location.pathname}`;
addEventListener("pagehide", () => {
  const open = parts.filter((part) => part.open).map(title);
  try {
    sessionStorage.setItem(key, JSON.stringify({ open, top: scrollY }));
  } catch {
    // Then it is not kept.
  }
});
let kept = null;
try {
  kept = JSON.parse(sessionStorage.getItem(key));
} catch {
  // There is nothing to go back to.
}
const [visit] = performance.getEntriesByType("navigation");
if (kept && visit && visit.type === "reload") {
  history.scrollRestoration = "manual";
  for (const part of parts) part.open = kept.open.includes(title(part));
  scrollTo(0, kept.top);
} else {
  show(location.hash);
}

if (Number(reload)) {
  if (Date.now() / 1000 - written > 10 * reload) {
    document.getElementById("stale").hidden = false;
    document.getElementById("live").hidden = true;
  } else {
    setTimeout(() => location.reload(), 1000 * reload);
  }
}
