// @ts-check
// What an operator does besides answering alarms: let a held answer go, write to a unit, key a check
// for an officer. What is read of an answer leaves this page again after READ_MS: a screen that
// somebody walked away from shows nobody's record.

/** @typedef {{picture:any, change:(path:string, body?:object)=>Promise<Response>,
 *   call:(path:string)=>Promise<Response>, changed:()=>void, unitName:(i:any)=>string,
 *   plain:(text:unknown)=>string, age:(ms:number)=>string, clockTime:(ms:number)=>string,
 *   rows:(parent:Element, keys:string[], make:(key:string)=>Element,
 *     fill:(row:Element, key:string)=>void)=>void,
 *   put:(element:Element, text:string, cls?:string)=>void,
 *   el:(tag:string, cls?:string)=>HTMLElement, supervises:()=>boolean}} Page */

const READ_MS = 30 * 1000;
const MESSAGES_SHOWN = 8;
const ASKED_SHOWN = 4;
const STATES = /** @type {Record<string, string>} */ ({
  queued: "on record", sent: "sent", delivered: "delivered", read: "read",
  stale: "NEVER DELIVERED (too old, or the radio changed hands)",
});
const DUE = /** @type {Record<string, string>} */ ({
  open: "to be explained", answered: "explained", overdue: "NOT EXPLAINED IN TIME",
});

/** @type {Map<string, any>} */ const releases = new Map();
/** @type {Map<string, any>} */ const messages = new Map();
/** @type {Map<string, any>} */ const challenges = new Map();
/** @type {Map<string, {levels:string[], pages:string[], untilMs:number}>} */
const reading = new Map();
/** @type {Map<string, {ref:string, why:string, pages:string[], untilMs:number, fetched:boolean}>} */
const asked = new Map();
/** @type {Map<string, string>} */ const refusals = new Map();
/** @type {Set<string>} */ const acting = new Set();
/** @type {Page} */ let page;

/** @param {string} id */
function at(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no #${id}`);
  return /** @type {any} */ (found);
}

// ---------------------------------------------------------------- the picture

/** @param {any} s */
export function takeSnapshot(s) {
  for (const [known, news] of /** @type {[Map<string, any>, any[]][]} */ ([
    [releases, s.releases], [messages, s.messages],
  ])) {
    known.clear();
    for (const each of news ?? []) known.set(each.id, each);
  }
  challenges.clear();
  if (page.supervises()) toReview().catch(() => undefined); // the next snapshot tries again
}

/** The explanations that wait for a supervisor. Their words are kept only where they are read. */
async function toReview() {
  const waiting = (await said(page.call("/api/v1/challenges"))).challenges;
  for (const { ref, id, u, state, due } of waiting) challenges.set(id, { ref, id, u, state, due });
  page.changed();
  return waiting;
}

/** Whether this was for us. @param {any} m one event-lane message */
export function apply(m) {
  switch (m.type) {
    case "release":
      if (m.state === "held") releases.set(m.id, m);
      else { releases.delete(m.id); reading.delete(m.id); refusals.delete(m.id); }
      return true;
    case "message":
      messages.set(m.id, m);
      for (const id of messages.keys()) {
        if (messages.size <= MESSAGES_SHOWN) break;
        messages.delete(id);
      }
      return true;
    case "challenge":
      if (m.state === "reviewed") challenges.delete(m.id);
      else challenges.set(m.id, m);
      return true;
    case "policy.change":
      return true;
    default:
      return false;
  }
}

// ---------------------------------------------------------------- acts

/** @param {unknown} error */
function words(error) {
  if (error instanceof Error && error.name === "TimeoutError") return "no reply";
  return page.plain(error instanceof Error ? error.message : error);
}

/** @param {Promise<Response>} going */
async function said(going) {
  const answer = await going;
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.title ?? `refused (${answer.status})`);
  return body;
}

/** One act at a time on one thing; why not is said beside it.
 * @param {string} id @param {() => Promise<void>} work */
async function once(id, work) {
  if (acting.has(id)) return;
  acting.add(id);
  refusals.delete(id);
  page.changed();
  try {
    await work();
  } catch (error) {
    refusals.set(id, `Not done: ${words(error)}.`);
  } finally {
    acting.delete(id);
    page.changed();
  }
}

/** @param {string} id */
function read(id) {
  return once(id, async () => {
    const held = await said(page.call(`/api/v1/releases/${encodeURIComponent(id)}`));
    const whole = held.whole.length ? [`All of it, at ${held.whole_level}:`, ...held.whole] : [];
    const pages = Object.entries(held.levels).flatMap(
      ([level, texts]) => [`The officer would read, at ${level}:`, ...texts],
    );
    const untilMs = performance.now() + READ_MS;
    reading.set(id, { levels: Object.keys(held.levels), pages: [...whole, ...pages], untilMs });
  });
}

/** @param {string} id @param {object} body */
function rule(id, body) {
  return once(id, async () => {
    await said(page.change(`/api/v1/releases/${encodeURIComponent(id)}`, body));
    reading.delete(id);
    releases.delete(id);
  });
}

async function write() {
  const to = at("write-to").value.trim();
  const text = at("write-text").value.trim();
  if (!to || !text) return;
  await once("write", async () => {
    await said(page.change(`/api/v1/units/${encodeURIComponent(to)}/message`, { text }));
    at("write-text").value = "";
  });
}

async function key() {
  const requester = at("ask-who").value.trim();
  const text = at("ask-text").value.trim();
  if (!requester || !text) return;
  await once("ask", async () => {
    const made = await said(
      page.change("/api/v1/checks", { requester, text, to_radio: at("ask-radio").checked }),
    );
    at("ask-text").value = "";
    asked.set(made.id, {
      ref: made.ref, why: made.refused, pages: [], untilMs: Infinity, fetched: Boolean(made.refused),
    });
    for (const id of asked.keys()) {
      if (asked.size <= ASKED_SHOWN) break;
      asked.delete(id);
    }
  });
}

/** Its answer, once it has ended: reading it is put on record, so it is read once.
 * @param {string} id */
async function fetchAnswer(id) {
  const mine = asked.get(id);
  if (!mine || mine.fetched) return;
  mine.fetched = true;
  try {
    const answer = await said(page.call(`/api/v1/checks/${encodeURIComponent(id)}/answer`));
    const none = answer.outcome === "answered" ? [] : [`NO ANSWER: ${answer.why || answer.outcome}`];
    mine.pages = [...none, ...answer.pages];
    mine.untilMs = performance.now() + READ_MS;
  } catch (error) {
    mine.why = words(error);
  }
  page.changed();
}

/** @param {string} id */
function look(id) {
  return once(id, async () => {
    const found = (await toReview()).find((/** @type {any} */ each) => each.id === id);
    if (!found) throw new Error("reviewed already");
    const pages = [
      `${found.officer}, ${found.kind}, reason ${found.reason}, challenged: ${found.cause}`,
      found.text || "nothing was said yet",
    ];
    reading.set(id, { levels: [], pages, untilMs: performance.now() + READ_MS });
  });
}

/** @param {string} id @param {boolean} enough */
function review(id, enough) {
  return once(id, async () => {
    await said(page.change(`/api/v1/challenges/${encodeURIComponent(id)}/review`, { enough }));
    challenges.delete(id);
    reading.delete(id);
  });
}

/** @param {Page} given */
export function begin(given) {
  page = given;
  at("write").onsubmit = (/** @type {Event} */ event) => { event.preventDefault(); write(); };
  at("ask").onsubmit = (/** @type {Event} */ event) => { event.preventDefault(); key(); };
}

// ---------------------------------------------------------------- drawing

/** What was read, as the radio would show it; gone in time.
 * @param {Element} place @param {string[]} pages */
function screens(place, pages) {
  const shown = pages.join("\n\n");
  page.put(place, page.plain(shown.replaceAll("\n", "\u0000")).replaceAll("‹0000›", "\n"));
}

/** @param {string} name @param {() => void} act */
function button(name, act) {
  const made = /** @type {HTMLButtonElement} */ (page.el("button"));
  made.type = "button";
  made.textContent = name;
  made.onclick = act;
  return made;
}

/** @param {number} now */
function drawReleases(now) {
  const all = [...releases.values()].sort((a, b) => a.since - b.since);
  page.put(at("releases-count"), all.length ? `(${all.length})` : "");
  at("releases-none").hidden = all.length > 0;
  page.rows(at("release-list"), all.map((r) => r.id), (id) => {
    const row = page.el("li");
    const acts = page.el("div", "buttons");
    const level = /** @type {HTMLSelectElement} */ (page.el("select"));
    const why = /** @type {HTMLInputElement} */ (page.el("input"));
    level.setAttribute("aria-label", "Level to amend to");
    why.setAttribute("aria-label", "Why it is refused");
    why.placeholder = "why refused";
    why.maxLength = 200;
    acts.append(
      button("Read", () => read(id)),
      button("Release", () => rule(id, { act: "release" })),
      level,
      button("Amend", () => rule(id, { act: "amend", level: level.value })),
      why,
      button("Refuse", () => rule(id, { act: "refuse", why: why.value.trim() })),
    );
    row.append(page.el("span", "what word"), page.el("span", "word"), acts,
      page.el("pre", "read word"), page.el("span", "wrong"));
    return row;
  }, (row, id) => {
    const held = releases.get(id);
    const open = reading.get(id);
    const [what, proposed, acts, pages, wrong] = row.children;
    page.put(what, `${page.plain(held.ref)} ${page.unitName(held.u)} · waits ${page.age(now - held.since * 1000)}`);
    page.put(proposed, `${page.plain(held.level)}: ${page.plain(held.proposed)}`);
    screens(pages, open?.pages ?? []);
    page.put(wrong, refusals.get(id) ?? "");
    const [, , level, amend, why, refuse] = /** @type {any[]} */ ([...acts.children]);
    const lower = (open?.levels ?? []).filter((/** @type {string} */ each) => each !== held.level);
    page.rows(level, lower, (name) => {
      const option = page.el("option");
      option.textContent = name;
      return option;
    }, () => {});
    level.hidden = amend.hidden = lower.length === 0;
    for (const each of acts.children) /** @type {any} */ (each).disabled = acting.has(id);
    refuse.disabled ||= why.value.trim().length < 3;
  });
}

function drawMessages() {
  const units = [...page.picture.units.values()].map((u) => page.plain(u.cs)).filter(Boolean);
  page.rows(at("call-signs"), units.sort(), (cs) => {
    const option = /** @type {HTMLOptionElement} */ (page.el("option"));
    option.value = cs;
    return option;
  }, () => {});
  page.put(at("write-said"), refusals.get("write") ?? "");
  at("write-do").disabled = acting.has("write");
  const newest = [...messages.values()].sort((a, b) => b.t - a.t).slice(0, MESSAGES_SHOWN);
  page.rows(at("message-list"), newest.map((m) => m.id), () => {
    const row = page.el("li");
    row.append(page.el("span", "name"), document.createTextNode(" "), page.el("span", "word"));
    return row;
  }, (row, id) => {
    const m = messages.get(id);
    page.put(row.children[0], `${page.plain(m.ref)} ${page.unitName(m.u)}`);
    const state = STATES[m.state] ?? page.plain(m.state);
    page.put(row.children[1], `${state} · ${page.clockTime(m.t * 1000)} · by ${page.plain(m.by)}`,
      m.state === "stale" ? "bad word" : "word");
  });
}

function drawAsked() {
  page.put(at("ask-said"), refusals.get("ask") ?? "");
  at("ask-do").disabled = acting.has("ask");
  for (const id of asked.keys()) if (page.picture.checks.get(id)?.done) fetchAnswer(id);
  page.rows(at("asked-list"), [...asked.keys()].reverse(), () => {
    const row = page.el("li");
    row.append(page.el("span", "name"), document.createTextNode(" "), page.el("span", "word"),
      page.el("pre", "read word"));
    return row;
  }, (row, id) => {
    const mine = /** @type {any} */ (asked.get(id));
    page.put(row.children[0], page.plain(mine.ref));
    const gone = mine.fetched && !mine.why && !mine.pages.length && mine.untilMs < Infinity;
    page.put(row.children[1], mine.why ? page.plain(mine.why)
      : gone ? "read; no longer shown" : mine.pages.length ? "" : "asked");
    screens(row.children[2], mine.pages);
  });
}

/** @param {number} now */
function drawChallenges(now) {
  const all = [...challenges.values()].sort((a, b) => a.due - b.due);
  at("challenges").hidden = all.length === 0;
  page.put(at("challenges-count"), `(${all.length})`);
  page.rows(at("challenge-list"), all.map((c) => c.id), (id) => {
    const row = page.el("li");
    row.append(page.el("span", "name"), page.el("span", "word"),
      button("Look", () => look(id)), button("Explains it", () => review(id, true)),
      button("Does not", () => review(id, false)), page.el("span", "wrong"),
      page.el("pre", "read word"));
    return row;
  }, (row, id) => {
    const c = challenges.get(id);
    page.put(row.children[0], `${page.plain(c.ref)} ${page.unitName(c.u)}`);
    const left = c.due * 1000 - now;
    const due = c.state === "open" ? ` · ${left > 0 ? `${page.age(left)} left` : "due"}` : "";
    page.put(row.children[1], `${DUE[c.state] ?? page.plain(c.state)}${due}`,
      c.state === "overdue" ? "bad word" : "word");
    const open = reading.get(id);
    for (const each of /** @type {HTMLButtonElement[]} */ ([...row.children].slice(2, 5))) {
      each.disabled = acting.has(id);
    }
    // Nobody judges what they have not read.
    for (const each of [...row.children].slice(3, 5)) /** @type {any} */ (each).hidden = !open;
    page.put(row.children[5], refusals.get(id) ?? "");
    screens(row.children[6], open?.pages ?? []);
  });
}

/** @param {number} now */
export function draw(now) {
  const nowMs = performance.now();
  for (const [id, open] of reading) if (nowMs >= open.untilMs) reading.delete(id);
  for (const mine of asked.values()) if (nowMs >= mine.untilMs) mine.pages = [];
  drawReleases(now);
  drawMessages();
  drawAsked();
  drawChallenges(now);
}
