// Search over all pages. SECTIONS, written above by the build, has [page, title, anchor, heading, text] of each section.
"use strict";
const MOST = 20;
// One spelling for accents, hyphens, -ize and -ise, small and large letters; every letter keeps its place.
const fold = text => [...text].map(letter => letter.normalize("NFD")[0]).join("").toLowerCase()
  .replace(/[-–]/g, " ").replace(/iz(?=[aei])/g, "is");
const entries = SECTIONS.map(([page, title, anchor, heading, text]) =>
  ({ page, title, anchor, heading, text, head: fold(heading), body: fold(text), all: fold(`${title} ${heading} ${text}`) }));

function score(entry, words) {  // headings count most, whole words more than parts; every word has to occur
  let sum = 0;
  for (const word of words) {
    if (!entry.all.includes(word)) return 0;
    if (entry.head === words.join(" ")) sum += 100;
    if (entry.head.split(/\W+/).includes(word)) sum += 20;
    else if (entry.head.includes(word)) sum += 10;
    sum += Math.min(5, entry.body.split(word).length - 1) + 1;
  }
  return sum;
}

function rank(query) {  // all entries that fit, the best first
  const words = fold(query).split(/\s+/).filter(Boolean);
  const scored = words.length ? entries.map(entry => [score(entry, words), entry]).filter(([points]) => points) : [];
  return { words, ranked: scored.sort((a, b) => b[0] - a[0]).map(([, entry]) => entry) };
}

function excerpt(entry, words) {  // the text around the first word found, as nodes
  const places = words.map(word => [entry.body.indexOf(word), word.length]).filter(([at]) => at >= 0);
  const [at, length] = places.length ? places.reduce((a, b) => (a[0] <= b[0] ? a : b)) : [0, 0];
  const from = at > 60 ? entry.text.lastIndexOf(" ", at - 50) + 1 : 0;
  const mark = document.createElement("mark");
  mark.textContent = entry.text.slice(at, at + length);
  return [(from ? "… " : "") + entry.text.slice(from, at), mark, entry.text.slice(at + length, at + length + 90) + " …"];
}

function show(query) {
  const { words, ranked } = rank(query);
  found.replaceChildren(...ranked.slice(0, MOST).map(entry => {
    const item = document.createElement("li"), link = document.createElement("a"), text = document.createElement("p");
    link.href = entry.page + (entry.anchor && `#${encodeURIComponent(entry.anchor)}`);
    const head = document.createElement("b");
    head.textContent = entry.heading;
    text.append(...excerpt(entry, words));
    link.append(head, entry.heading === entry.title ? "" : ` – ${entry.title}`, text);
    item.append(link);
    return item;
  }));
  const places = ranked.length === 1 ? "1 place" : `${ranked.length} places`;
  count.textContent = words.length ? places + (ranked.length > MOST ? `, the first ${MOST}` : "") : "";
  pages.hidden = words.length > 0;
}

const [form, field, count, found, pages] = ["form", "input", "[role=status]", ".found", "nav"].map(
  part => document.querySelector(`#site ${part}`));
form.hidden = false;
pages.querySelector("details").open = matchMedia("(min-width: 75rem)").matches;
field.addEventListener("input", () => show(field.value));
form.addEventListener("submit", event => {
  event.preventDefault();
  found.querySelector("a")?.click();
});
document.addEventListener("keydown", event => {
  const links = [...found.querySelectorAll("a")], at = links.indexOf(document.activeElement);
  const inside = at >= 0 || document.activeElement === field;
  if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) field.focus();
  else if (event.key === "Escape" && inside) { field.value = ""; show(""); field.focus(); }
  else if (event.key === "ArrowDown" && inside) links[Math.min(at + 1, links.length - 1)]?.focus();
  else if (event.key === "ArrowUp" && at >= 0) (links[at - 1] ?? field).focus();
  else return;
  event.preventDefault();
});
found.addEventListener("click", event => {  // a place on this page: the list makes way for it
  if (event.target.closest("a")?.href.split("#")[0] === location.href.split("#")[0]) { field.value = ""; show(""); }
});
