// The page of `ziggurat serve`. What comes from the memory is put in as text, never as markup.

import { chooseField, condition, metadata, options, setFields } from "/fields.js";
import { address, call, form, hasToken, pictureOf, setToken } from "/server.js";

const $ = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)} %`;
const narrow = matchMedia("(max-width: 56rem)");
let stats = null; // of the memory, as /api/stats says
let query = null; // { image: File, name } or { id, number, name }, and `url` of its picture where there is one
let searching = null; // an AbortController while an answer is waited for
let urls = []; // of pictures on the cards

// Starting

function enter(mistake) {
  $("memory").hidden = true;
  $("entry").hidden = false;
  $("entry-mistake").textContent = mistake;
  $("about").textContent = "";
  $("token").focus();
}

async function start() {
  try {
    await refresh();
    $("entry").hidden = true;
    $("memory").hidden = false;
  } catch (error) {
    if (error.status === 401) enter(hasToken() ? "That is not the token of this server." : "");
    else $("about").textContent = error.message;
  }
}

$("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken($("token").value.trim());
  if (narrow.matches) for (const part of document.querySelectorAll("details")) part.open = false;
start();
});

function plural(count, what) {
  return `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
}

async function refresh() {
  stats = await (await call("/api/stats")).json();
  const rank = ({ name }) => (name === "label" ? -1 : name === "data" ? 1 : 0); // the name of the data set matters least
  stats.fields.sort((a, b) => rank(a) - rank(b));
  const made = stats.method ? `, pictures embedded by ${stats.method}` : "";
  $("about").textContent = `${plural(stats.count, "example")} of ${plural(stats.dimension, "number")}, compared by ${stats.metric}${made}`;
  $("drop").hidden = !stats.method;
  $("by-id").querySelector("label").textContent = stats.method ? "Or an example, by its id" : "An example, by its id";
  $("number-line").hidden = stats.numbered !== "some";
  $("k").max = stats.accepted.neighbours;
  $("where").maxLength = stats.accepted.filter_length;
  const told = stats.fields.filter((field) => field.kind !== "mixed");
  options($("label"), told.map(({ name }) => [name, name]), $("label").value || undefined);
  setFields(stats);
}

// Filters

$("field").addEventListener("change", chooseField);
$("build").addEventListener("submit", (event) => {
  event.preventDefault();
  const [old, next] = [$("where").value.trim(), condition()];
  if (!next) return whereMistake("Say a value to add to the filter.");
  $("where").value = old ? `${/\bor\b/i.test(old) ? `(${old})` : old} and ${next}` : next;
  search();
});
$("clear").addEventListener("click", () => {
  $("where").value = "";
  search();
});
$("filter-form").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
for (const id of ["k", "label", "vote"]) $(id).addEventListener("change", () => $(id).reportValidity() && search());

function whereMistake(text) {
  $("where-mistake").textContent = text;
  $("where").toggleAttribute("aria-invalid", Boolean(text));
}

// Queries

const asForm = ({ image, id, number }) => (image ? { image } : { id, number });

function setQuery(next) {
  if (query?.url) URL.revokeObjectURL(query.url);
  query = next;
  $("add-section").hidden = !query.image;
  preview();
  search(true);
}

function preview() {
  $("preview").hidden = !query?.url;
  if (query?.url) $("preview").src = query.url;
  $("preview").alt = query?.url ? `The query: ${query.name}` : "";
  $("drop-text").textContent = query?.image ? "Choose another picture" : "Choose a picture";
}

for (const image of [$("preview"), $("pair-query"), $("pair-neighbour")]) {
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < 80));
}
$("preview").addEventListener("error", () => ($("preview").hidden = true)); // a format that only the server reads

function take(file, name = file.name) {
  if (!stats?.method) return;
  const most = stats.accepted.upload_bytes;
  if (file.size > most) return fail(new Error(`${name} has more than ${most / 1e6} MB; scale it down.`));
  $("new-id").value = name;
  $("add-mistake").textContent = "";
  setQuery({ image: file, name, url: URL.createObjectURL(file) });
}

$("file").addEventListener("change", () => {
  if ($("file").files.length) take($("file").files[0]);
  $("file").value = ""; // so that the same file can be chosen again
});
window.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
window.addEventListener("dragleave", () => $("drop").classList.remove("over"));
window.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
});
window.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (file) take(file, `pasted ${new Date().toISOString().slice(0, 19)}`);
});
$("by-id").addEventListener("submit", (event) => {
  event.preventDefault();
  const number = stats.numbered === "all" || (stats.numbered === "some" && $("number").checked);
  similar({ id: $("id").value, number });
});

async function similar({ id, number }) {
  const mine = { id, number, name: id };
  setQuery(mine);
  try {
    mine.url = await pictureOf(mine);
    if (query === mine) preview();
  } catch {
    // there is no picture of it, which is no mistake
  }
}

async function search(fresh = false) {
  if (!query) return;
  searching?.abort();
  searching = new AbortController();
  const { signal } = searching;
  $("status").textContent = "Searching …";
  $("mistake").textContent = "";
  whereMistake("");
  const asked = { ...asForm(query), k: $("k").value || 10, where: $("where").value, label: $("label").value || "label", vote: $("vote").value };
  try {
    const found = await (await call("/api/search", { method: "POST", body: form(asked), signal })).json();
    if (!signal.aborted) render(found);
    if (fresh && narrow.matches) $("results").scrollIntoView({ block: "start" });
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  }
}

function fail(error) {
  $("status").textContent = "";
  if (/^(the filter|the field|there is no field)/.test(error.message)) {
    whereMistake(error.message);
    if ($("cards").children.length) $("status").textContent = "These are still the neighbours of the filter before.";
  } else {
    $("mistake").textContent = error.message;
    clear();
  }
}

function clear() {
  for (const url of urls) URL.revokeObjectURL(url);
  urls = [];
  $("cards").replaceChildren();
  $("voting").hidden = true;
}

// Neighbours

function render({ neighbours, votes, plan }) {
  clear();
  const said = votes.length ? ` Most votes go to ${votes[0].label} (${percent(votes[0].share)}).` : "";
  $("status").textContent = neighbours.length
    ? `${plural(neighbours.length, "neighbour")} of ${query.name}, nearest first.${said}`
    : $("where").value.trim() ? "No example satisfies the filter." : "There is no other example in the memory.";
  $("status").title = `${plan.strategy}: ${plan.why} (${plan.selected} of ${plan.rows} examples are selected)`;
  $("voting").hidden = !votes.length;
  $("votes").replaceChildren(...votes.slice(0, 8).map(bar));
  const farthest = Math.max(...neighbours.map(({ distance }) => distance), 1e-12);
  $("cards").replaceChildren(...neighbours.map((neighbour) => card(neighbour, farthest)));
}

function bar({ label, share }) {
  const item = $("share").content.cloneNode(true);
  item.querySelector(".what").textContent = label;
  item.querySelector(".bar span").style.width = `${100 * share}%`;
  item.querySelector(".percent").textContent = percent(share);
  return item;
}

function card(neighbour, farthest) {
  const { id, distance, vote } = neighbour;
  const item = $("card").content.cloneNode(true);
  const part = (name) => item.querySelector(name);
  const { [$("label").value]: label, ...others } = neighbour.metadata;
  Object.assign(part(".name"), { textContent: id, title: id });
  Object.assign(part(".label"), { textContent: label ?? "without a label", title: label ?? "" });
  part(".bar span").style.width = `${Math.max(0, 100 * distance) / farthest}%`;
  part(".distance").textContent = `distance ${distance.toFixed(4)}`;
  part(".vote").textContent = `vote ${percent(vote)}`;
  const common = new Set(stats.fields.filter(({ distinct, missing }) => distinct === 1 && !missing).map(({ name }) => name));
  for (const [name, value] of Object.entries(others)) {
    if (value === null || common.has(name)) continue; // what all have in common tells nothing
    const row = document.createElement("div");
    for (const [tag, text] of [["dt", name], ["dd", typeof value === "object" ? JSON.stringify(value) : value]]) {
      row.append(Object.assign(document.createElement(tag), { textContent: text }));
    }
    part(".fields").append(row);
  }
  part(".look").setAttribute("aria-label", `Compare the query with ${id}`);
  part(".look").addEventListener("click", () => compare(neighbour));
  part(".similar").setAttribute("aria-label", `Similar to ${id}`);
  part(".similar").addEventListener("click", () => similar(neighbour));
  part(".forget").setAttribute("aria-label", `Forget ${id}`);
  part(".forget").addEventListener("click", () => confirmForget(neighbour));
  if (neighbour.picture) load(neighbour, part(".picture"), part(".none"));
  return item;
}

async function load(neighbour, image, none) {
  none.textContent = "…";
  try {
    const url = await pictureOf(neighbour);
    urls.push(url);
    image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < 80));
    image.src = url;
    [image.hidden, none.hidden] = [false, true];
  } catch {
    none.textContent = "no picture";
  }
}

// Why are they alike?

async function compare(neighbour) {
  const mine = query;
  $("why-title").textContent = `${mine.name} and ${neighbour.id}`;
  $("maps").hidden = true;
  $("why-text").textContent = "Looking …";
  for (const id of ["pair-query", "pair-neighbour"]) $(id).parentElement.hidden = true;
  $("why").showModal();
  const put = (id, url) => {
    $(id).src = url;
    $(id).parentElement.hidden = false;
  };
  if (mine.url) put("pair-query", mine.url);
  try {
    if (neighbour.picture) put("pair-neighbour", await pictureOf(neighbour));
    if (stats.maps !== null) $("why-text").textContent = `There are no maps of the similarity: ${stats.maps}`;
    else if (!neighbour.picture || !mine.url) $("why-text").textContent = "There are no maps of the similarity, since one of the pictures is not here.";
    else await maps(mine, neighbour);
  } catch (error) {
    $("why-text").textContent = error.message;
  }
}

async function maps(mine, neighbour) {
  const asked = { ...asForm(mine), neighbour: neighbour.id, neighbour_number: neighbour.number };
  const response = await call("/api/explain", { method: "POST", body: form(asked) });
  const cosine = Number(response.headers.get("x-cosine")).toFixed(3);
  $("maps").src = URL.createObjectURL(await response.blob());
  $("maps").alt = `Maps of the similarity over ${mine.name}, left, and ${neighbour.id}, right: red where it comes from, blue where it is spoken against.`;
  $("maps").hidden = false;
  $("why-text").textContent = `Their cosine is ${cosine}. Red parts make them alike, blue ones speak against it. Both maps have one scale, and each adds up to the cosine.`;
}

$("why").addEventListener("close", () => {
  for (const url of [$("maps").src, $("pair-neighbour").src]) if (url.startsWith("blob:")) URL.revokeObjectURL(url);
  for (const id of ["maps", "pair-neighbour", "pair-query"]) $(id).removeAttribute("src");
});

// Adding and forgetting

let leaving = null;

function confirmForget(neighbour) {
  leaving = neighbour;
  $("sure-title").textContent = `Forget ${neighbour.id}?`;
  $("sure").returnValue = "no";
  $("sure").showModal();
}

$("sure").addEventListener("close", async () => {
  if ($("sure").returnValue === "yes" && (await forget(leaving))) toast(`${leaving.id} is forgotten.`);
});

async function forget(example) {
  try {
    await call(address(example), { method: "DELETE" });
  } catch (error) {
    toast(error.message);
    return false;
  }
  if (query?.id === example.id && query.number === example.number) {
    query = null;
    preview();
    clear();
    $("status").textContent = "The query itself is forgotten.";
  }
  await changed();
  return true;
}

async function changed() {
  try {
    await refresh();
    await search();
  } catch (error) {
    fail(error);
  }
  $("results").focus({ preventScroll: true });
}

$("add").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("add-mistake").textContent = "";
  const id = $("new-id").value;
  try {
    const body = form({ image: query.image, id, metadata: JSON.stringify(metadata()) });
    const example = await (await call("/api/examples", { method: "POST", body })).json();
    toast(`${id} is in the memory.`, example);
    for (const field of ["more-name", "more-value"]) $(field).value = "";
    await changed();
  } catch (error) {
    $("add-mistake").textContent = error.message;
  }
});

function toast(text, example = null) {
  $("toast-text").textContent = text;
  $("undo").hidden = example === null;
  $("undo").onclick = async () => (await forget(example)) && toast(`${example.id} is out of the memory again.`);
  $("toast").hidden = false;
}

$("toast-close").addEventListener("click", () => ($("toast").hidden = true));

if (narrow.matches) for (const part of document.querySelectorAll("details")) part.open = false;
start();
