// Fields of the metadata: conditions of a filter, and what a new example says.

const $ = (id) => document.getElementById(id);
let memory = null; // as /api/stats says

export function setFields(stats) {
  memory = stats;
  options($("field"), conditions().map(({ name, kind }) => [name, `${name} (${kind})`]));
  $("where-example").textContent = example();
  chooseField();
  newFields();
}

function example() {
  const field = conditions().find(({ kind, values }) => kind === "numbers" || values.length) ?? { name: "label", values: [{ value: "shirt" }] };
  return field.kind === "numbers" ? `${field.name} >= ${field.low ?? 0}` : `${field.name} = ${literal(field.values[0].value)}`;
}

export function options(select, pairs, wanted) {
  const before = wanted ?? select.value;
  select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value)));
  if (pairs.some(([value]) => value === before)) select.value = before;
}

function conditions() {
  const ids = { none: "text", all: "numbers", some: "mixed" }[memory.numbered];
  const fields = memory.fields.filter((field) => field.filterable);
  return ids === "mixed" ? fields : [...fields, { name: "id", kind: ids, values: [], distinct: memory.count, low: null, high: null }];
}

const literal = (value) => (typeof value === "string" ? `'${value.replaceAll("'", "''")}'` : String(value));

export function chooseField() {
  const field = conditions().find(({ name }) => name === $("field").value);
  const few = field && field.kind !== "numbers" && field.values.length > 0 && field.values.length === field.distinct;
  for (const part of document.querySelectorAll(".by-value")) part.hidden = !few;
  for (const part of document.querySelectorAll(".by-text")) part.hidden = !field || few || field.kind !== "text";
  for (const part of document.querySelectorAll(".by-range")) part.hidden = !field || field.kind !== "numbers";
  $("build").hidden = !field;
  if (few) options($("value"), field.values.map(({ value, count }) => [literal(value), `${value} (${count.toLocaleString("en")})`]));
  $("low").placeholder = field?.low ?? "";
  $("high").placeholder = field?.high ?? "";
}

export function condition() {
  const name = $("field").value;
  if (!document.querySelector(".by-value").hidden) return `${name} = ${$("value").value}`;
  if (!document.querySelector(".by-text").hidden) return $("text").value ? `${name} = ${literal($("text").value)}` : "";
  const [low, high] = [$("low").valueAsNumber, $("high").valueAsNumber];
  const parts = [Number.isNaN(low) ? "" : `${name} >= ${low}`, Number.isNaN(high) ? "" : `${name} <= ${high}`];
  return parts.filter(Boolean).join(" and ");
}

function newFields() {
  const fields = memory.fields.filter(({ name, filterable }) => filterable && name !== "data").slice(0, 8);
  if (!fields.some(({ name }) => name === "label")) fields.unshift({ name: "label", kind: "text", values: [] });
  const before = new Map([...$("new-fields").querySelectorAll("[name]")].map(({ name, value }) => [name, value]));
  $("new-fields").replaceChildren(...fields.map((field, i) => newField(field, `new-${i}`, before.get(field.name) ?? "")));
}

function newField({ name, kind, values }, id, value) {
  const part = document.createElement("div");
  part.append(Object.assign(document.createElement("label"), { htmlFor: id, textContent: name }));
  const input = document.createElement(kind === "true or false" ? "select" : "input");
  Object.assign(input, { id, name });
  input.dataset.kind = kind;
  if (kind === "true or false") options(input, [["", ""], ["true", "true"], ["false", "false"]]);
  if (kind === "numbers") Object.assign(input, { type: "number", step: "any" });
  input.value = value;
  part.append(input);
  if (kind === "text") {
    const list = Object.assign(document.createElement("datalist"), { id: `${id}-values` });
    list.append(...values.map((known) => new Option(known.value, known.value)));
    input.setAttribute("list", list.id);
    part.append(list);
  }
  return part;
}

function typed(text, kind) {
  if (kind === "text") return text;
  if (kind === "true or false" && !/^(true|false)$/i.test(text.trim())) throw new Error(`${text} is neither true nor false.`);
  if (kind === "true or false") return text.trim().toLowerCase() === "true";
  if (!Number.isFinite(Number(text))) throw new Error(`${text} is no number.`);
  return Number(text);
}

export function metadata() {
  const told = [...$("new-fields").querySelectorAll("[name]")].map(({ name, value, dataset }) => [name, value, dataset.kind]);
  told.push([$("more-name").value, $("more-value").value, $("more-kind").value]);
  return Object.fromEntries(told.filter(([name, value]) => name && value).map(([name, value, kind]) => [name, typed(value, kind)]));
}
