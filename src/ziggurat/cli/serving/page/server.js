// Asking the server: every request shows the token, where there is one, and a mistake is an Error with the server's own sentence.

let token = sessionStorage.getItem("token");

export const hasToken = () => Boolean(token);

export function setToken(text) {
  token = text;
  sessionStorage.setItem("token", text);
}

export async function call(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error("The server does not answer; is it still running?");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw Object.assign(new Error(said.detail ?? `The server answered ${response.status}.`), { status: response.status });
}

export const address = ({ id, number }, rest = "") =>
  `/api/examples/${encodeURIComponent(id)}${rest}${number ? "?number=true" : ""}`;

export async function pictureOf(example) {
  const response = await call(address(example, "/image"));
  return URL.createObjectURL(await response.blob());
}

export function form(values) {
  const body = new FormData();
  for (const [name, value] of Object.entries(values)) if (value !== null && value !== undefined) body.append(name, value);
  return body;
}
