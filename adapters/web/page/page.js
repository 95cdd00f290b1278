// @ts-check
// The control-room page: one picture, kept by numbered events, with its own age always in sight.
// Rules of the stream: a snapshot, then events whose `prev` must be the number held (else one
// reset), silence shown as silence, and a reconnect that we time ourselves.

/** @typedef {{i:number, cs:string, ag:string, ar:string, cls:string, st:string, lat6:number|null,
 *   lon6:number|null, fix_ms:number|null, contact_ms:number|null, emergency:boolean}} Unit */
/** @typedef {{ref:string, id:string, u:number|null, kind:string, opened:number, deadline:number,
 *   stage:string, delivery:string, done:any}} Check */

import * as desk from "/desk.js";

const DELAYED_MS = 3000;
const FROZEN_MS = 10000;
const BACKOFF_S = [0.5, 1, 2, 4, 8];
const CHECKS_SHOWN = 60;
const LOST_MS = 15 * 60 * 1000;
const FETCH_MS = 5000;
const ACTIVE_MS = 60 * 1000; // how often we say that somebody is here
const IDLE_WARNING_MS = 60 * 1000;
const CALM_MS = 10000; // a second reset within this time waits as a lost line does

const picture = {
  epoch: "",
  held: 0,
  /** @type {Map<number, Unit>} */ units: new Map(),
  /** @type {Map<string, Check>} */ checks: new Map(),
  /** @type {Map<string, any>} */ alarms: new Map(),
  /** @type {Map<string, any>} */ links: new Map(),
  /** @type {Record<string, {T:number}>} */ bands: {},
  /** @type {Record<string, {pri:number, says:string, response:string, shelve:boolean}>} */ rules: {},
  /** @type {{minutes:number[], reasons:string[]}} */ shelve: { minutes: [], reasons: [] },
  whole: false,
};
const feed = {
  /** @type {EventSource|null} */ source: null,
  lastMs: performance.now(),
  everLive: false,
  attempt: 0,
  opening: false,
  timer: 0,
  resets: 0,
  resetMs: -Infinity,
  unknown: 0,
  /** @type {number[]} */ offsets: [],
};
const me = { roles: /** @type {string[]} */ ([]), csrf: "", idleMs: Infinity, actMs: performance.now(), toldMs: -Infinity };
/** @type {Map<string, string>} */
const refusals = new Map();
/** @type {Set<string>} */
const acting = new Set();
/** @type {Set<string>} */
const announced = new Set();

/** @param {string} id */
function at(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no #${id}`);
  return found;
}

// ---------------------------------------------------------------- words

const STAGES = /** @type {Record<string, string>} */ ({
  opening: "recording", queued: "waiting for a place", noting: "recording", pnc: "at the PNC",
  retry: "asking again", concluding: "recording", held: "held for release",
  prompted: "officer asked: free?", disclosing: "recording", delivering: "to the officer",
  done: "ended",
});
const CLASSES = /** @type {Record<string, string>} */ ({
  HIT_WANTED: "HIT: WANTED", HIT_CRITICAL: "HIT: CRITICAL WARNING", HIT_STOLEN: "HIT: STOLEN",
  HIT_WELFARE: "HIT: MISSING / WELFARE", HIT_CAUTION: "HIT: CAUTION", HIT_STATUS: "HIT: STATUS",
  TRACE_INFO: "TRACE", TRACE_CLEAR: "NO REPORTS", NO_TRACE: "NO TRACE",
  MULTIPLE: "SEVERAL MATCHES", TOO_MANY: "TOO MANY MATCHES", PARTIAL: "PARTIAL ANSWER",
  RESTRICTED: "RESTRICTED",
});
const DELIVERY = /** @type {Record<string, string>} */ ({
  sent: "sent", delivered: "delivered", read: "read", failed: "NOT DELIVERED",
  stale: "NEVER DELIVERED (too old)",
});

/** Text from outside: control and direction characters are made visible, never obeyed.
 * @param {unknown} text */
function plain(text) {
  return String(text ?? "").replace(
    /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
    (c) => `‹${c.charCodeAt(0).toString(16).padStart(4, "0")}›`,
  );
}

/** @param {number} ms */
function age(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  return `${Math.floor(s / 3600)} h`;
}

/** The gateway's clock as far as we know it: the quickest of the last beats sets the offset. */
function nowMs() {
  return Date.now() + (feed.offsets.length ? Math.max(...feed.offsets) : 0);
}

/** @param {number} ms */
function clockTime(ms) {
  return new Date(ms).toLocaleTimeString("en-GB");
}

/** @param {number|null|undefined} i */
function unitName(i) {
  const unit = i === null || i === undefined ? undefined : picture.units.get(i);
  return unit ? plain(unit.cs) || "?" : "?";
}

/** Age band of a position (the expected interval T of its device class).
 * @param {Unit} unit @param {number} now */
function band(unit, now) {
  if (unit.lat6 === null || unit.fix_ms === null) return "none";
  const t = (picture.bands[unit.cls]?.T ?? 30) * 1000;
  const old = now - unit.fix_ms;
  if (old <= 2 * t) return "live";
  if (old <= 4 * t) return "aging";
  if (old <= Math.min(20 * t, LOST_MS)) return "stale";
  return "lost";
}

// ---------------------------------------------------------------- the picture

/** @param {any} s */
function takeSnapshot(s) {
  picture.epoch = s.epoch;
  picture.held = s.seq;
  picture.bands = s.dict.bands ?? {};
  picture.rules = s.dict.alarm_rules ?? {};
  picture.shelve = s.dict.shelve ?? picture.shelve;
  picture.units.clear();
  picture.checks.clear();
  picture.alarms.clear();
  picture.links.clear();
  /** @type {string[]} */
  const cols = s.units.cols;
  for (const row of s.units.rows) {
    /** @type {any} */
    const unit = Object.fromEntries(cols.map((name, n) => [name, row[n]]));
    unit.ag = s.dict.agencies[unit.ag];
    unit.ar = s.dict.areas[unit.ar];
    unit.st = s.dict.status[unit.st];
    unit.emergency = (unit.fl & 1) === 1;
    picture.units.set(unit.i, unit);
  }
  for (const check of s.checks) picture.checks.set(check.id, { done: null, ...check });
  for (const alarm of s.alarms) if (alarm.state !== "cleared") picture.alarms.set(alarm.id, alarm);
  for (const link of s.links) picture.links.set(link.id, link);
  desk.takeSnapshot(s);
  picture.whole = true;
}

/** @param {any} m one event-lane message */
function apply(m) {
  const check = m.id ? picture.checks.get(m.id) : undefined;
  switch (m.type) {
    case "unit.meta": {
      const before = picture.units.get(m.i);
      picture.units.set(m.i, {
        lat6: null, lon6: null, fix_ms: null, contact_ms: null, emergency: false, ...before, ...m,
      });
      break;
    }
    case "unit.gone":
      picture.units.delete(m.i);
      break;
    case "unit.emergency": {
      const unit = picture.units.get(m.i);
      if (unit) unit.emergency = m.on;
      break;
    }
    case "check.open":
      if (!check) picture.checks.set(m.id, { delivery: "", done: null, ...m });
      trimChecks();
      break;
    case "check.stage":
      if (check) check.stage = m.stage;
      break;
    case "check.done":
      if (check) { check.done = m; check.stage = "done"; }
      break;
    case "check.delivery":
      if (check) check.delivery = m.state;
      break;
    case "alarm":
      if (m.state === "cleared") { picture.alarms.delete(m.id); refusals.delete(m.id); }
      else picture.alarms.set(m.id, m);
      break;
    case "link":
      picture.links.set(m.id, m);
      break;
    case "notice":
      break;
    default:
      if (!desk.apply(m)) feed.unknown += 1;
  }
}

function trimChecks() {
  for (const [id, check] of picture.checks) {
    if (picture.checks.size <= 2 * CHECKS_SHOWN) return;
    if (check.done) picture.checks.delete(id);
  }
}

/** @param {any} m */
function takeFixes(m) {
  for (const [i, lat6, lon6, , , , ageDs] of m.u) {
    const unit = picture.units.get(i);
    if (!unit) continue;
    unit.lat6 = lat6;
    unit.lon6 = lon6;
    unit.fix_ms = m.t * 1000 - ageDs * 100;
    unit.contact_ms = Math.max(unit.contact_ms ?? 0, m.t * 1000);
  }
}

// ---------------------------------------------------------------- the stream

/** @param {string} data */
function receive(data) {
  feed.lastMs = performance.now();
  const m = JSON.parse(data);
  switch (m.type) {
    case "hb":
      feed.offsets.push(m.t * 1000 - Date.now());
      if (feed.offsets.length > 10) feed.offsets.shift();
      if (performance.now() - feed.resetMs > CALM_MS) feed.attempt = 0;
      feed.everLive = true;
      if (m.seq !== picture.held) reset();
      break;
    case "unit.batch":
      takeFixes(m);
      break;
    case "reset":
      reset();
      break;
    case "bye":
      drop();
      if (m.reason === "session") leave();
      else later(m.retry_ms);
      break;
    default:
      if (m.ahead) { apply(m); break; } // an emergency ahead of its turn; it comes again in place
      if (m.prev !== picture.held) { reset(); break; }
      picture.held = m.seq;
      apply(m);
  }
  changed();
}

function drop() {
  feed.source?.close();
  feed.source = null;
}

/** What we hold has a hole: one new snapshot, by way of the same back-off as a lost line. */
function reset() {
  const calm = performance.now() - feed.resetMs > CALM_MS;
  feed.resetMs = performance.now();
  feed.resets += 1;
  picture.whole = false;
  drop();
  later(calm ? 0 : undefined);
}

/** @param {number} [ms] */
function later(ms) {
  clearTimeout(feed.timer);
  if (ms === undefined) {
    const s = BACKOFF_S[Math.min(feed.attempt, BACKOFF_S.length - 1)];
    ms = s * 1000 * (0.75 + Math.random() / 2);
  }
  feed.attempt += 1;
  feed.timer = setTimeout(open, ms);
}

// ---------------------------------------------------------------- who is here

/** The session is over: nothing that stands here is live any more. */
function leave() {
  location.replace("/login");
}

/** @param {string} path @param {RequestInit} [more] */
async function call(path, more) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(FETCH_MS), ...more });
  if (answer.status === 401) leave();
  return answer;
}

/** @param {string} path @param {object} [body] */
function change(path, body = {}) {
  return call(path, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      "Idempotency-Key": crypto.randomUUID(),
      "X-CSRF-Token": me.csrf,
    },
    body: JSON.stringify(body),
  });
}

async function who() {
  const answer = await call("/api/v1/me");
  if (!answer.ok) throw new Error(`me ${answer.status}`);
  const said = await answer.json();
  me.csrf = said.csrf;
  me.idleMs = said.idle_s * 1000;
  me.roles = said.roles;
  const acts = me.roles.some((role) => ["operator", "supervisor"].includes(role));
  for (const id of ["releases", "writing", "asking"]) at(id).hidden = !acts;
  at("me-name").textContent = `${plain(said.name || said.id)} (${plain(said.roles.join(", "))})`;
}

/** Somebody used keyboard or pointer: the session's idle time begins anew, said now and then. */
function active() {
  me.actMs = performance.now();
  if (!me.csrf || me.actMs - me.toldMs < Math.min(ACTIVE_MS, me.idleMs / 4)) return;
  me.toldMs = me.actMs;
  change("/api/v1/me/active").catch(() => { me.toldMs = -Infinity; });
}
for (const name of ["pointerdown", "pointermove", "keydown", "wheel"]) {
  document.addEventListener(name, active, { passive: true });
}
at("log-out").onclick = async () => {
  await change("/api/v1/logout").catch(() => undefined);
  leave();
};

async function open() {
  if (feed.opening) return;
  feed.opening = true;
  drop();
  try {
    await who(); // a stream that is refused says nothing of why: this does
    if (!picture.whole) {
      const answer = await call("/api/v1/snapshot");
      if (!answer.ok) throw new Error(`snapshot ${answer.status}`);
      takeSnapshot(await answer.json());
      changed();
    }
    const place = new URLSearchParams({ epoch: picture.epoch, after: String(picture.held) });
    const source = new EventSource(`/api/v1/stream?${place}`);
    source.onmessage = (event) => { if (feed.source === source) receive(event.data); };
    source.onerror = () => { if (feed.source === source) { drop(); later(); } };
    feed.source = source;
  } catch {
    later(); // for ever; the lamp says how old the picture is meanwhile
  } finally {
    feed.opening = false;
  }
}

function watch() {
  const silentMs = performance.now() - feed.lastMs;
  if (silentMs > FROZEN_MS && feed.source) {
    drop();
    later();
  }
  draw();
}

for (const [where, name] of /** @type {[EventTarget, string][]} */ ([
  [document, "visibilitychange"], [window, "online"], [window, "pageshow"],
])) {
  where.addEventListener(name, () => {
    const silentMs = performance.now() - feed.lastMs;
    if (document.visibilityState === "visible" && silentMs > DELAYED_MS) {
      feed.attempt = 0;
      drop();
      later(0);
    }
  });
}

// ---------------------------------------------------------------- acts

/** For how long, and why: of the lists that the rules have. @param {string} id */
function putAside(id) {
  const alarm = picture.alarms.get(id);
  if (!alarm) return;
  const dialog = /** @type {HTMLDialogElement} */ (at("aside"));
  for (const [select, words] of /** @type {[string, (string|number)[]][]} */ ([
    ["aside-minutes", picture.shelve.minutes], ["aside-why", picture.shelve.reasons],
  ])) {
    at(select).replaceChildren(...words.map((word) => {
      const option = /** @type {HTMLOptionElement} */ (el("option"));
      option.value = String(word);
      option.textContent = select === "aside-minutes" ? `${word} minutes` : plain(word);
      return option;
    }));
  }
  put(at("aside-what"), alarmTitle(alarm));
  /** @type {HTMLFormElement} */ (at("aside-form")).onsubmit = () => {
    const value = (/** @type {string} */ name) => /** @type {HTMLSelectElement} */ (at(name)).value;
    act(id, "shelve", { minutes: Number(value("aside-minutes")), why: value("aside-why") });
  };
  dialog.showModal();
}
at("aside-cancel").onclick = () => /** @type {HTMLDialogElement} */ (at("aside")).close();

/** @param {string} id @param {"ack"|"close"|"shelve"|"unshelve"|"mistake"} verb @param {object} [body] */
async function act(id, verb, body) {
  acting.add(id);
  refusals.delete(id);
  changed();
  try {
    const answer = await change(`/api/v1/alarms/${encodeURIComponent(id)}/${verb}`, body);
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.title ?? `refused (${answer.status})`);
  } catch (error) {
    const why = error instanceof Error && error.name === "TimeoutError" ? "no reply" : error;
    refusals.set(id, `Not done: ${plain(why instanceof Error ? why.message : why)}. Try again.`);
  } finally {
    acting.delete(id);
    changed();
  }
}

// ---------------------------------------------------------------- drawing

let drawing = 0;
function changed() {
  if (!drawing) drawing = setTimeout(draw, 50); // not a frame: the title must live in a hidden tab
}

/** Rows by key: what stays, stays (and keeps its focus); text only where it differs.
 * @param {Element} parent @param {string[]} keys @param {(key:string)=>Element} make
 * @param {(row:Element, key:string)=>void} fill */
function rows(parent, keys, make, fill) {
  const have = new Map([...parent.children].map((row) => [row.getAttribute("data-key"), row]));
  const wanted = new Set(keys);
  for (const [key, row] of have) if (key === null || !wanted.has(key)) row.remove();
  let place = parent.firstElementChild;
  for (const key of keys) {
    let row = have.get(key);
    if (!row) {
      row = make(key);
      row.setAttribute("data-key", key);
    }
    if (row === place) place = place.nextElementSibling;
    else parent.insertBefore(row, place);
    fill(row, key);
  }
}

/** @param {Element} element @param {string} text @param {string} [cls] */
function put(element, text, cls) {
  if (element.textContent !== text) element.textContent = text;
  if (cls !== undefined && element.className !== cls) element.className = cls;
}

/** @param {string} tag @param {string} [cls] */
function el(tag, cls) {
  const made = document.createElement(tag);
  if (cls) made.className = cls;
  return made;
}

/** A table row of cells, each with one element to write in.
 * @param {string[]} classes */
function tableRow(classes) {
  const row = el("tr");
  classes.forEach((cls, n) => {
    const cell = n === 0 ? el("th") : el("td");
    if (n === 0) cell.setAttribute("scope", "row");
    if (cls.includes("figure")) cell.className = "figure";
    cell.append(el("span", cls));
    row.append(cell);
  });
  return row;
}

/** @param {any} alarm */
function alarmTitle(alarm) {
  const says = picture.rules[alarm.rule]?.says ?? plain(alarm.rule);
  const who = alarm.subj.u !== undefined ? ` ${unitName(alarm.subj.u)}` : "";
  const ref = alarm.subj.ref ? ` ${plain(alarm.subj.ref)}` : "";
  const link = alarm.subj.link ? ` ${plain(alarm.subj.link)}` : "";
  const times = alarm.count > 1 ? ` ×${alarm.count}` : "";
  return `${says}${who}${ref}${link}${times}`;
}

/** What else is so of an alarm. @param {any} alarm */
function alarmMore(alarm) {
  const more = [
    alarm.why && plain(alarm.why),
    alarm.shelved_until && `put aside until ${clockTime(alarm.shelved_until * 1000)}`,
    alarm.chatter && `chattering ×${alarm.chatter}`,
    alarm.group && "flood: grouped",
    alarm.audience === "everybody" && "with supervisors",
  ].filter(Boolean);
  return more.length ? ` · ${more.join(" · ")}` : "";
}

function sortedAlarms() {
  const aside = (/** @type {any} */ a) => (a.shelved_until ? 1 : 0);
  const unack = (/** @type {any} */ a) => (a.state.startsWith("unack") ? 0 : 1);
  return [...picture.alarms.values()].sort(
    (a, b) => aside(a) - aside(b) || unack(a) - unack(b) || a.pri - b.pri || b.raised - a.raised,
  );
}

/** @param {any[]} alarms @param {number} now */
function drawAlarms(alarms, now) {
  put(at("alarms-count"), alarms.length ? `(${alarms.length})` : "");
  at("alarms-none").hidden = alarms.length > 0 || !picture.epoch;
  rows(at("alarm-list"), alarms.map((a) => a.id), (id) => {
    const row = el("li");
    const acts = el("div", "buttons");
    for (const [name, does] of /** @type {[string, () => void][]} */ ([
      ["Acknowledge", () => act(id, "ack")],
      ["Close", () => act(id, "close")],
      ["Pressed by mistake", () => act(id, "mistake")],
      ["Put aside", () => putAside(id)],
      ["Take back", () => act(id, "unshelve")],
    ])) {
      const button = /** @type {HTMLButtonElement} */ (el("button"));
      button.textContent = name;
      button.onclick = does;
      acts.append(button);
    }
    const middle = el("div");
    middle.append(el("span", "word"), el("br"), el("span", "soft"));
    row.append(el("span", "what word"), middle, acts, el("span", "wrong"));
    return row;
  }, (row, id) => {
    const alarm = picture.alarms.get(id);
    const unack = alarm.state.startsWith("unack");
    const over = alarm.state.endsWith("cleared");
    row.className = `p${alarm.pri} ${unack ? "unack" : ""}`;
    const [what, middle, acts, wrong] = row.children;
    put(what, alarmTitle(alarm));
    put(middle.children[0], plain(alarm.response || picture.rules[alarm.rule]?.response));
    const state = (unack ? "nobody has acknowledged" : `acknowledged by ${plain(alarm.ack_by)}`) + alarmMore(alarm);
    put(middle.children[2],
      `${over ? "is over; " : ""}${state} · for ${age(now - alarm.raised * 1000)} · since ${clockTime(alarm.raised * 1000)}`);
    const buttons = /** @type {HTMLButtonElement[]} */ ([...acts.children]);
    const [ack, close, mistake, aside, back] = buttons;
    ack.hidden = !unack;
    close.hidden = unack;
    mistake.hidden = alarm.rule !== "EMG" || Boolean(alarm.why);
    aside.hidden = !picture.rules[alarm.rule]?.shelve || alarm.pri === 1 || Boolean(alarm.shelved_until);
    back.hidden = !alarm.shelved_until;
    for (const button of buttons) {
      button.disabled = acting.has(id);
      button.setAttribute("aria-label", `${button.textContent} ${alarmTitle(alarm)}`);
    }
    put(wrong, refusals.get(id) ?? "");
  });
  for (const alarm of alarms) {
    if (alarm.state.startsWith("unack") && alarm.pri <= 2 && !alarm.shelved_until && !announced.has(alarm.id)) {
      announced.add(alarm.id);
      put(at("announcer"), `Alarm: ${alarmTitle(alarm)}`);
    }
  }
}

/** @param {number} now */
function drawChecks(now) {
  const all = [...picture.checks.values()];
  const open = all.filter((c) => !c.done).sort((a, b) => a.opened - b.opened);
  const ended = all.filter((c) => c.done).sort((a, b) => b.done.t - a.done.t);
  const shown = [...open, ...ended].slice(0, CHECKS_SHOWN);
  put(at("checks-count"), `(${open.length} open)`);
  at("checks-none").hidden = shown.length > 0 || !picture.epoch;
  rows(at("check-rows"), shown.map((c) => c.id),
    () => tableRow(["name", "name", "word", "word", "figure", "", "word"]),
    (row, id) => {
      const check = /** @type {Check} */ (picture.checks.get(id));
      const [ref, unit, kind, stage, elapsed, outcome, delivery] =
        [...row.children].map((cell) => /** @type {Element} */ (cell.firstElementChild));
      row.className = check.done ? "ended" : "";
      put(ref, plain(check.ref));
      put(unit, unitName(check.u));
      put(kind, plain(check.kind));
      put(stage, STAGES[check.stage] ?? plain(check.stage));
      if (check.done) {
        const s = (check.done.elapsed_ms / 1000).toFixed(check.done.elapsed_ms < 10000 ? 2 : 1);
        put(elapsed, `${s} s`, "");
        drawOutcome(outcome, check.done, check.kind);
      } else {
        const over = now > check.deadline * 1000;
        const s = Math.max(0, now - check.opened * 1000) / 1000;
        put(elapsed, `${s.toFixed(0)} s${over ? " OVERDUE" : ""}`,
          over ? "bad" : s * 2000 > (check.deadline - check.opened) * 1000 ? "care" : "");
        put(outcome, "—", "soft");
      }
      put(delivery, DELIVERY[check.delivery] ?? plain(check.delivery),
        check.delivery === "failed" || check.delivery === "stale" ? "bad word" : "word");
    });
}

/** @param {Element} cell @param {any} done @param {string} kind */
function drawOutcome(cell, done, kind) {
  const key = JSON.stringify([done.outcome, done.class, done.danger, done.cause, done.not_checked]);
  if (cell.getAttribute("data-said") === key) return;
  cell.setAttribute("data-said", key);
  cell.className = "word";
  /** @type {Element[]} */
  const parts = [];
  const say = (/** @type {string} */ text, /** @type {string} */ cls) => {
    const span = el("span", cls);
    span.textContent = text;
    parts.push(span);
  };
  for (const word of done.danger ?? []) say(plain(word), "danger word");
  if (done.outcome === "answered") {
    // A person on record without a marker is not "no reports": that is a vehicle's word.
    const person = kind === "person" || kind === "driver";
    const words = !done.class ? "ANSWERED"
      : done.class === "TRACE_CLEAR" && person ? "TRACE, NO MARKERS"
      : CLASSES[done.class] ?? plain(done.class);
    say(words, words.startsWith("HIT") ? "hit" : "");
    if (done.not_checked?.length) say(` NOT CHECKED: ${plain(done.not_checked.join(", "))}`, "care");
  } else if (done.outcome === "refused") {
    say(`REFUSED ${plain(done.cause)}`, "care");
  } else {
    say("NO ANSWER", "bad");
    say(` ${plain(done.cause)}`, "soft"); // expired or failed alike: no answer is never no trace
  }
  cell.replaceChildren(...parts);
}

/** @param {number} now */
function drawUnits(now) {
  const names = new Intl.Collator("en-GB", { numeric: true });
  const units = [...picture.units.values()].sort(
    (a, b) => Number(b.emergency) - Number(a.emergency) || names.compare(a.cs, b.cs),
  );
  const known = units.filter((u) => ["live", "aging"].includes(band(u, now))).length;
  put(at("units-count"), `(${units.length}, ${known} with a fresh position)`);
  at("units-none").hidden = units.length > 0 || !picture.epoch;
  rows(at("unit-rows"), units.map((u) => String(u.i)),
    () => tableRow(["name", "word", "word", "word", "", "figure soft", "figure soft"]),
    (row, key) => {
      const unit = /** @type {Unit} */ (picture.units.get(Number(key)));
      const [cs, area, agency, status, fix, heard, where] =
        [...row.children].map((cell) => /** @type {Element} */ (cell.firstElementChild));
      row.className = unit.emergency ? "emergency" : "";
      put(cs, plain(unit.cs) || "?");
      put(area, plain(unit.ar));
      put(agency, plain(unit.ag));
      put(status, unit.emergency ? "EMERGENCY" : plain(unit.st), unit.emergency ? "bad" : "word");
      const old = unit.fix_ms === null ? "" : age(now - unit.fix_ms);
      const state = band(unit, now);
      const says = {
        live: [`● ${old}`, "good"], aging: [`◐ ${old} aging`, ""], stale: [`○ ${old} STALE`, "care"],
        lost: [`× ${old} LOST`, "bad"], none: ["no position", "care"],
      }[state];
      put(fix, says[0], says[1]);
      put(heard, unit.contact_ms ? age(now - unit.contact_ms) : "never");
      put(where, unit.lat6 === null || unit.lon6 === null ? "—"
        : `${(unit.lat6 / 1e6).toFixed(4)}, ${(unit.lon6 / 1e6).toFixed(4)}`,
        state === "stale" || state === "lost" ? "figure soft" : "figure");
    });
}

/** @param {number} now */
function drawLinks(now) {
  const links = [...picture.links.values()].sort((a, b) => a.id.localeCompare(b.id));
  const down = links.filter((l) => l.state !== "up").length;
  put(at("links-count"), links.length ? `(${links.length}, ${down} not up)` : "");
  at("links-none").hidden = links.length > 0 || !picture.epoch;
  rows(at("link-list"), links.map((l) => l.id), () => {
    const row = el("li");
    row.append(el("span", "name"), document.createTextNode(" "), el("span"),
      document.createTextNode(" "), el("span", "soft word"));
    return row;
  }, (row, id) => {
    const link = picture.links.get(id);
    const [name, state, since] = row.children;
    put(name, plain(link.id));
    const up = link.state === "up";
    put(state, up ? "● up" : `■ ${plain(link.state).toUpperCase()}`,
      up ? "good" : link.state === "down" ? "bad" : "care");
    const detail = link.detail ? ` · ${plain(link.detail)}` : "";
    put(since, `for ${age(now - link.since * 1000)} (since ${clockTime(link.since * 1000)})${detail}`);
  });
}

/** @param {any[]} alarms */
function drawFeed(alarms) {
  const silentMs = performance.now() - feed.lastMs;
  let word = "LIVE";
  let warning = "";
  if (silentMs > FROZEN_MS) {
    word = "FROZEN";
    warning = `PICTURE IS ${age(silentMs)} OLD: nothing comes from the gateway. Trying again. Use voice.`;
  } else if (silentMs > DELAYED_MS) {
    word = "DELAYED";
    warning = `Nothing received for ${age(silentMs)}: what you see may be old.`;
  } else if (!feed.everLive || !picture.epoch) {
    word = "CONNECTING";
  }
  const leftMs = me.actMs + me.idleMs - performance.now();
  if (!warning && leftMs < IDLE_WARNING_MS) {
    warning = `YOU ARE LOGGED OUT IN ${age(leftMs)}: press a key to stay.`;
  }
  document.body.dataset.feed = word.toLowerCase();
  put(at("feed-word"), word);
  put(at("feed-age"), word === "LIVE" ? "" : `last word ${age(silentMs)} ago`);
  put(at("warning"), warning);
  at("warning").hidden = !warning;
  put(at("clock"), `gateway time ${clockTime(nowMs())}`);
  put(at("tally"), feed.resets || feed.unknown
    ? `resets ${feed.resets}, unknown messages ${feed.unknown}` : "");
  const top = alarms.find((a) => a.state.startsWith("unack")) ?? alarms[0];
  const title = [word === "LIVE" ? "" : word, top ? alarmTitle(top) : "", "radio gateway"];
  document.title = title.filter(Boolean).join(" · ");
}

function draw() {
  clearTimeout(drawing);
  drawing = 0;
  const now = nowMs();
  const alarms = sortedAlarms();
  drawFeed(alarms);
  drawAlarms(alarms, now);
  drawChecks(now);
  desk.draw(now);
  drawUnits(now);
  drawLinks(now);
}

desk.begin({
  picture, change, call, changed, unitName, plain, age, clockTime, rows, put, el,
  supervises: () => me.roles.includes("supervisor"),
});

setInterval(watch, 250);
open();
