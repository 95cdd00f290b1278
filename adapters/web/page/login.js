// @ts-check
// The log-in: a password goes to our own API and is kept nowhere; or on to the identity provider.

const FETCH_MS = 15000;
const at = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @param {string} text */
function say(text) {
  at("why").textContent = text;
}

async function begin() {
  try {
    const answer = await fetch("/api/v1/login", { signal: AbortSignal.timeout(FETCH_MS) });
    const { mode } = await answer.json();
    at("by-provider").hidden = mode !== "oidc";
    at("by-password").hidden = mode === "oidc";
    if (mode !== "oidc") at("id").focus();
  } catch {
    say("The gateway does not answer. Trying again.");
    setTimeout(begin, 2000);
  }
}

/** @type {HTMLFormElement} */ (at("by-password")).onsubmit = async (event) => {
  event.preventDefault();
  const id = /** @type {HTMLInputElement} */ (at("id"));
  const password = /** @type {HTMLInputElement} */ (at("password"));
  const go = /** @type {HTMLButtonElement} */ (at("go"));
  const body = JSON.stringify({ id: id.value.trim(), password: password.value });
  password.value = "";
  go.disabled = true;
  say("");
  try {
    const answer = await fetch("/api/v1/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body,
      signal: AbortSignal.timeout(FETCH_MS),
    });
    if (answer.ok) {
      location.replace("/");
      return;
    }
    const said = await answer.json();
    say(String(said.title ?? `refused (${answer.status})`));
  } catch {
    say("No reply: try again.");
  }
  go.disabled = false;
  password.focus();
};

begin();
