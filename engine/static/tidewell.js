/**
 * tidewell.js: live data from a Tidewell server in a plain web page.
 *
 *   import { TidewellClient } from "/tidewell.js";
 *
 *   const client = new TidewellClient(location.origin);
 *   const stop = client.subscribe("posts:list_posts", { limit: 20 }, (posts) => draw(posts));
 *   await client.mutation("posts:like", { post_id, user_id });
 *
 * One ES module, no build step, nothing to install. It speaks the sync protocol over one
 * WebSocket and keeps these promises:
 *
 * - Every subscription shows the same database snapshot at any moment: all changes of a
 *   commit are applied before the first listener is called.
 * - A mutation runs exactly once, however often the connection breaks: it is sent again under
 *   the same session and request id, and the server knows those that it has committed.
 * - When `await client.mutation(...)` returns, every subscription already shows its effect.
 * - An action may have run or not when the connection breaks, so it is never sent twice; its
 *   promise is rejected with a `ConnectionError`.
 * - What is called after `setAuth` waits for the user's token, and is sent behind it.
 *
 * The reference is docs/browser-client.md.
 */

const INACTIVITY_MS = 60_000; // the server sends something at least every 15 s
const RETRY_BASE_MS = 1_000;
const RETRY_BASE_OVERLOADED_MS = 3_000;
const RETRY_BASE_LOCAL_MS = 100; // our own decision to reconnect: no server asked us to wait
const RETRY_LONGEST_MS = 16_000;
const CLOSE_TRY_AGAIN_LATER = 1013;
const FIELD_NAME_LONGEST = 1024;
const FRESH_TOKENS_TRIED_MAX = 2; // after a refusal, before the client goes on as nobody
const TOKEN_LEEWAY_S = 10; // a token is renewed this long before it expires
const TOKEN_LIFETIME_S_MIN = 2; // one that lives no longer is not renewed ahead
const TIMER_MS_MAX = 2 ** 31 - 1;

// ---------------------------------------------------------------------------- errors

/** A function on the server failed. `message` is one line, `details` the server's whole text. */
export class FunctionError extends Error {
  /** @param {string} path @param {string} details */
  constructor(path, details) {
    const [head, cause] = details.split("\n");
    super((cause || head).replace(/^Uncaught /, ""));
    this.name = "FunctionError";
    this.path = path;
    this.details = details.trimEnd();
  }
}

/** The function raised `AppError(data)`: an error meant for the client, which may read `data`. */
export class AppError extends FunctionError {
  /** @param {string} path @param {string} details @param {unknown} data */
  constructor(path, details, data) {
    super(path, details);
    this.name = "AppError";
    this.data = data;
  }
}

/** The connection was lost or closed before the outcome of a call was known. */
export class ConnectionError extends Error {
  name = "ConnectionError";
}

/** The server said something outside the protocol; the client reconnects. */
class ProtocolError extends Error {
  name = "ProtocolError";
}

// ---------------------------------------------------------------------------- values

/**
 * Turn a JavaScript value into the JSON that stands for it: BigInt becomes int64, ArrayBuffer
 * and typed arrays become bytes. Fields that are `undefined` are left out.
 */
export function encodeValue(value, where = "value") {
  switch (typeof value) {
    case "boolean":
      return value;
    case "number":
      return isPlainNumber(value) ? value : { $float: toBase64(eightBytes("setFloat64", value)) };
    case "bigint":
      if (BigInt.asIntN(64, value) !== value) throw new TypeError(`${where}: ${value} does not fit in 64 bits`);
      return { $integer: toBase64(eightBytes("setBigInt64", value)) };
    case "string":
      if (/\p{Surrogate}/u.test(value)) throw new TypeError(`${where}: the text has half of a surrogate pair`);
      return value;
    case "object":
      if (value === null) return null;
      if (value instanceof ArrayBuffer) return { $bytes: toBase64(new Uint8Array(value)) };
      if (ArrayBuffer.isView(value)) {
        return { $bytes: toBase64(new Uint8Array(value.buffer, value.byteOffset, value.byteLength)) };
      }
      if (Array.isArray(value)) return value.map((item, i) => encodeValue(item, `${where}[${i}]`));
      if (isPlainObject(value)) return encodeObject(value, where);
  }
  throw new TypeError(`${where}: ${describe(value)} cannot be sent; use null, boolean, number, BigInt, string, ` +
    "ArrayBuffer, arrays and plain objects");
}

/** Turn JSON from the server into the value it stands for; the inverse of `encodeValue`. */
export function decodeValue(json, where = "value") {
  if (json === null || typeof json !== "object") return json;
  if (Array.isArray(json)) return json.map((item, i) => decodeValue(item, `${where}[${i}]`));
  const names = Object.keys(json);
  if (names.some((name) => name.startsWith("$"))) return decodeSpecial(json, names, where);
  return Object.fromEntries(
    names.map((name) => [checkedFieldName(name, where), decodeValue(json[name], `${where}.${name}`)]),
  );
}

function encodeObject(object, where) {
  const names = Object.keys(object).filter((name) => object[name] !== undefined);
  return Object.fromEntries(
    names.sort().map((name) => [checkedFieldName(name, where), encodeValue(object[name], `${where}.${name}`)]),
  );
}

function decodeSpecial(json, names, where) {
  const text = json[names[0]];
  if (names.length === 1 && typeof text === "string") {
    const bytes = fromBase64(text);
    const view = new DataView(bytes.buffer);
    if (names[0] === "$bytes") return bytes.buffer;
    if (names[0] === "$integer" && bytes.length === 8) return view.getBigInt64(0, true);
    if (names[0] === "$float" && bytes.length === 8) {
      const number = view.getFloat64(0, true);
      if (!isPlainNumber(number)) return number;
    }
  }
  throw new ProtocolError(`${where}: ${JSON.stringify(json)} stands for no value`);
}

function checkedFieldName(name, where) {
  if (/^(?!\$)[ -~]*$/.test(name) && name.length <= FIELD_NAME_LONGEST) return name;
  throw new TypeError(`${where}: a field may not be named ${JSON.stringify(name)}`);
}

/** Whether JSON can hold the number: not NaN, an infinity or negative zero. */
function isPlainNumber(number) {
  return Number.isFinite(number) && !Object.is(number, -0);
}

function isPlainObject(value) {
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null;
}

function describe(value) {
  return typeof value === "object" ? `an instance of ${value.constructor?.name}` : `a value of type ${typeof value}`;
}

function eightBytes(setter, value) {
  const view = new DataView(new ArrayBuffer(8));
  view[setter](0, value, true);
  return new Uint8Array(view.buffer);
}

function toBase64(bytes) {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

// ---------------------------------------------------------------------------- protocol scalars

const FIRST_VERSION = Object.freeze({ querySet: 0, identity: 0, ts: "AAAAAAAAAAA=" });

/** Timestamps are unsigned 64-bit little-endian in base64, and too large for a number. */
function readTimestamp(text) {
  return new DataView(fromBase64(text).buffer).getBigUint64(0, true);
}

function writeTimestamp(ts) {
  return toBase64(eightBytes("setBigUint64", ts));
}

/** `crypto.randomUUID` exists on secure origins only; a development server may not be one. */
function randomUuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function canonicalPath(path) {
  const colon = path.lastIndexOf(":");
  const [module, name] = colon < 0 ? [path, "default"] : [path.slice(0, colon), path.slice(colon + 1)];
  return `${module.replace(/\.js$/, "")}:${name}`;
}

function queryKey(path, encodedArgs) {
  return `${canonicalPath(path)} ${JSON.stringify(encodedArgs)}`;
}

function syncAddress(address) {
  const url = new URL(address);
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new TypeError(`the server's address must begin with http:// or https://, not ${url.protocol}`);
  }
  return `${url.href.replace(/^http/, "ws").replace(/[?#].*$/, "").replace(/\/+$/, "")}/api/sync`;
}

function readError(path, details, message) {
  if (!("errorData" in message)) return new FunctionError(path, details);
  return new AppError(path, details, decodeValue(message.errorData, "errorData"));
}

/** When to renew a token that was handed out now, in ms since the epoch; Infinity if it does not say. */
function timeToRenew(token) {
  let claims = {};
  try {
    const bytes = fromBase64(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    claims = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    // not a token of the usual form; whether it is good is for the server to say
  }
  // Only the difference counts, for the clock of this machine may be wrong.
  const lifetime = claims.exp - claims.iat;
  if (!(lifetime > TOKEN_LIFETIME_S_MIN)) {
    console.error("the token does not say how long it lives (iat, exp), or not long; it is renewed only when refused");
    return Infinity;
  }
  return Date.now() + Math.max(lifetime - TOKEN_LEEWAY_S, lifetime / 2) * 1000;
}

/** Report what a listener threw without letting it disturb the others. */
function guarded(call) {
  try {
    call();
  } catch (error) {
    if (typeof globalThis.reportError === "function") globalThis.reportError(error);
    else console.error(error);
  }
}

// ---------------------------------------------------------------------------- optimistic updates

/** What an optimistic update sees and changes: the present results of the subscriptions. */
class LocalResults {
  #queries;
  #changed = new Map();

  constructor(queries) {
    this.#queries = queries;
  }

  /** The result that listeners of this query would be given now; undefined if there is none. */
  get(path, args = {}) {
    return this.outcome(queryKey(path, encodeValue(args, "args")))?.value;
  }

  /** Show `value` as this query's result. Give a new value; do not change the one you got. */
  set(path, args, value) {
    const key = queryKey(path, encodeValue(args, "args"));
    if (this.#queries.has(key)) this.#changed.set(key, { value });
  }

  outcome(key) {
    return this.#changed.get(key) ?? this.#queries.get(key)?.result;
  }
}

// ---------------------------------------------------------------------------- lists that grow

let listCount = 0; // in the arguments of each, so that two lists have pages of their own

/**
 * Pages that are watched one by one and shown as one list. The server keeps the ends of each
 * where they were first, so the next begins there for good, whatever is inserted and removed.
 */
class GrowingList {
  #client;
  #call; // {path, args, pageSize, onChange, onError}
  #id;
  #pages = [];
  #isAboutToTell = false;
  #isStopped = false;

  constructor(client, call) {
    this.#client = client;
    this.#call = call;
    this.#startOver();
  }

  /** Watch one page more. False if there is none, or the last one has not come yet. */
  loadMore = () => {
    const last = this.#pages.at(-1);
    if (this.#isStopped || !isShown(last) || last.result.isDone) return false;
    this.#pages.push(this.#watch(last.result.continueCursor));
    this.#tellSoon();
    return true;
  };

  stop = () => {
    this.#isStopped = true;
    this.#drop();
  };

  #startOver() {
    this.#drop();
    this.#id = listCount++; // fresh queries, whose ends are not fixed yet
    this.#pages = [this.#watch(null)];
  }

  #drop() {
    for (const page of this.#pages.splice(0)) for (const { stop } of [page, ...(page.halves ?? [])]) stop();
  }

  #watch(cursor, endCursor) {
    const { path, args, pageSize } = this.#call;
    const paginationOpts = { numItems: pageSize, cursor, endCursor, id: this.#id };
    const page = { cursor, result: null, halves: null, stop: undefined };
    page.stop = this.#client.subscribe(
      path,
      { ...args, paginationOpts },
      (value) => this.#take(page, value),
      (error) => this.#fail(page, error),
    );
    return page;
  }

  #take(page, value) {
    if (!Array.isArray(value?.page) || typeof value.isDone !== "boolean" || typeof value.continueCursor !== "string") {
      return this.#call.onError(new TypeError(`${this.#call.path} does not return a page`));
    }
    page.result = value;
    this.#tellSoon();
  }

  #fail(page, error) {
    // A page that has no end and no beginning of ours cannot be mended by asking again.
    const isOurs = page.cursor !== null || page.result !== null;
    if (!isOurs || !isInvalidCursor(error)) return this.#call.onError(error);
    this.#startOver();
    this.#tellSoon();
  }

  /** Tell of all pages at once: a transition may change several, and calls their listeners in turn. */
  #tellSoon() {
    if (this.#isAboutToTell) return;
    this.#isAboutToTell = true;
    queueMicrotask(() => {
      this.#isAboutToTell = false;
      if (this.#isStopped) return;
      this.#split();
      guarded(() => this.#call.onChange(this.#list()));
    });
  }

  /** Cut pages that have grown too large in two, which replace them when both have come. */
  #split() {
    this.#pages = this.#pages.flatMap((page) => {
      if (page.halves === null || page.halves.some(({ result }) => result === null)) return [page];
      page.stop();
      return page.halves;
    });
    for (const page of this.#pages) {
      if (page.result === null || page.halves !== null) continue;
      const { splitCursor, continueCursor, pageStatus, page: items } = page.result;
      if (splitCursor && (pageStatus || items.length > 2 * this.#call.pageSize)) {
        page.halves = [this.#watch(page.cursor, splitCursor), this.#watch(splitCursor, continueCursor)];
      }
    }
  }

  #list() {
    const missing = this.#pages.findIndex((page) => !isShown(page));
    const shown = missing < 0 ? this.#pages : this.#pages.slice(0, missing);
    const items = shown.flatMap(({ result }) => result.page);
    if (missing >= 0) return { items, status: this.#pages[0].result === null ? "loading" : "loadingMore" };
    return { items, status: this.#pages.at(-1).result.isDone ? "done" : "more" };
  }
}

/** A page that must be split is not whole, and not shown before it is. */
function isShown({ result }) {
  return result !== null && result.pageStatus !== "SplitRequired";
}

function isInvalidCursor(error) {
  return error.data?.paginationError === "InvalidCursor" || error.details.includes("InvalidCursor");
}

// ---------------------------------------------------------------------------- client

export class TidewellClient {
  #address;
  #WebSocket;
  #onLog;

  // For the life of the client.
  #sessionId = randomUuid();
  #queries = new Map(); // key -> query; one per distinct call, however many listen
  #requests = new Map(); // request id -> call not settled yet, in the order of calling
  #nextQueryId = 0;
  #nextRequestId = 0;
  #maxTs = 0n; // newest commit known to us; the next socket must not show an older one
  #connectionCount = 0;
  #lastCloseReason = "InitialConnect";
  #retries = 0; // back to 0 when a socket has caught up, not when it opens
  #status = "connecting";
  #statusListeners = new Set();
  #retryTimer;
  #auth = null; // how the user is signed in; another object after each setAuth
  #isHeld = false; // nothing but `Connect` is sent until the application has given a token

  // For the life of one socket.
  #socket = null; // null while waiting to reconnect and after close()
  #isOpen = false;
  #hasQuerySet = false; // whether the first ModifyQuerySet is out
  #identity = 0; // version of the last Authenticate sent
  #tokenSent = null; // in it
  #version = FIRST_VERSION; // end of the last transition applied
  #querySet = 0; // version of the last ModifyQuerySet sent
  #changes = []; // modifications not sent yet; those of one turn go out together
  #inactivityTimer;

  /**
   * @param {string} address of the server: `location.origin`, or `http://127.0.0.1:3210`
   * @param {object} [options]
   * @param {typeof WebSocket} [options.WebSocket] where the platform has none of its own
   * @param {(path: string, line: string) => void} [options.onLog] gets what functions print
   */
  constructor(address, options = {}) {
    this.#address = syncAddress(address);
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.#onLog = options.onLog ?? ((path, line) => console.info(`${path} ${line}`));
    if (this.#WebSocket === undefined) throw new TypeError("this platform has no WebSocket; pass one as an option");
    globalThis.addEventListener?.("online", this.#retryNow);
    this.#connect();
  }

  /** "connecting", "connected", "disconnected" (and about to try again) or "closed". */
  get status() {
    return this.#status;
  }

  /** Call `listener(status)` now and at every change; returns a function that stops it. */
  onStatus(listener) {
    this.#statusListeners.add(listener);
    guarded(() => listener(this.#status));
    return () => void this.#statusListeners.delete(listener);
  }

  /**
   * Watch a query: `onValue(value)` is called with its result and with every later one,
   * `onError(error)` when it fails; a failed query stays watched. Returns a function that stops.
   *
   * @param {string} path such as "posts:list_posts"
   * @param {object} args
   * @param {(value: any) => void} onValue
   * @param {(error: FunctionError) => void} [onError] default: log the error
   * @returns {() => void}
   */
  subscribe(path, args, onValue, onError = (error) => console.error(error)) {
    return this.#listen(path, args, { onValue, onError, seen: undefined });
  }

  /** Ask once. Answered from a subscription to the same query if there is one. */
  query(path, args = {}) {
    return new Promise((resolve, reject) => {
      const stop = this.#listen(path, args, {
        onValue: (value) => (stop(), resolve(value)),
        onError: (error) => (stop(), reject(error)),
        onEnd: reject,
        seen: undefined,
      });
    });
  }

  /**
   * Run a mutation exactly once; mutations of one client run in the order they were called.
   *
   * @param {string} path
   * @param {object} [args]
   * @param {object} [options]
   * @param {(local: LocalResults) => void} [options.optimistic] shows the expected effect until
   *   the server's own result arrives; run again over every result that comes before that
   */
  mutation(path, args = {}, { optimistic } = {}) {
    return this.#request("Mutation", path, args, optimistic);
  }

  /** Run an action at most once; rejected with a `ConnectionError` when nobody can tell. */
  action(path, args = {}) {
    return this.#request("Action", path, args);
  }

  /**
   * Watch a paginated query as one list that grows page by page.
   *
   * @param {string} path of a query that takes `paginationOpts` beside `args`
   * @param {object} args
   * @param {{pageSize: number}} options how many items a page begins with
   * @param {(list: {items: any[], status: "loading" | "loadingMore" | "more" | "done"}) => void} onChange
   * @param {(error: Error) => void} [onError] default: log the error
   * @returns {{loadMore: () => boolean, stop: () => void}}
   */
  paginate(path, args, { pageSize }, onChange, onError = (error) => console.error(error)) {
    if (!(pageSize >= 1)) throw new TypeError(`pageSize: expected a number of 1 or more, not ${pageSize}`);
    return new GrowingList(this, { path, args, pageSize, onChange, onError });
  }

  /**
   * Sign a user in, in place of the one before. What is called from now on runs as that user.
   *
   * @param {(options: {forceRefreshToken: boolean}) => Promise<string | null | undefined>} fetchToken
   *   gives an ID token, a fresh one if that is asked for; nothing if nobody is signed in
   * @param {(isAuthenticated: boolean) => void} [onChange] is told what the server thinks of it
   */
  setAuth(fetchToken, onChange = () => {}) {
    this.#mustBeOpenToUse();
    this.#forgetAuth();
    this.#auth = {
      fetchToken,
      onChange,
      reported: undefined,
      token: null,
      isFresh: false, // whether the token was asked for with forceRefreshToken
      renewAt: Infinity,
      renewTimer: undefined,
      fetchCount: 0, // the answer to an earlier question is not listened to
      refusals: 0, // since the last token that was accepted
    };
    this.#fetchTokenFirst(this.#auth, false);
  }

  /** Sign the user out. What is called from now on runs as nobody. */
  clearAuth() {
    this.#mustBeOpenToUse();
    this.#forgetAuth();
    this.#release();
  }

  /** Disconnect for good. Calls that wait for an answer are rejected, listeners hear no more. */
  close() {
    this.#end(new ConnectionError("the client was closed"));
  }

  // ------------------------------------------------------------------ subscriptions

  #listen(path, args, listener) {
    this.#mustBeOpenToUse();
    const query = this.#queryFor(path, encodeValue(args, "args"));
    query.listeners.add(listener);
    if (query.shown) queueMicrotask(() => this.#deliver(query, listener));
    return () => this.#unsubscribe(query, listener);
  }

  #queryFor(path, encodedArgs) {
    const key = queryKey(path, encodedArgs);
    let query = this.#queries.get(key);
    if (query === undefined) {
      query = {
        id: this.#nextQueryId++,
        key,
        path: canonicalPath(path),
        args: encodedArgs,
        journal: null, // keeps the ends of a page where they are when asked again
        result: undefined, // {value} or {error}: what the server said last
        shown: undefined, // the same with optimistic updates on top: what listeners see
        isFresh: false, // whether this socket has given a result
        listeners: new Set(), // {onValue, onError, onEnd?, seen}; seen is the outcome given last
      };
      this.#queries.set(key, query);
      this.#change(addition(query));
    }
    return query;
  }

  #unsubscribe(query, listener) {
    query.listeners.delete(listener);
    if (query.listeners.size > 0 || this.#queries.get(query.key) !== query) return;
    this.#queries.delete(query.key);
    this.#change({ type: "Remove", queryId: query.id });
  }

  #change(modification) {
    if (!this.#hasQuerySet) return; // which begins with everything that is watched then
    this.#changes.push(modification);
    if (this.#changes.length === 1) queueMicrotask(() => this.#sendChanges());
  }

  #sendChanges() {
    if (!this.#isOpen || this.#isHeld || this.#changes.length === 0) return;
    this.#sendQuerySet(this.#changes.splice(0));
  }

  #sendQuerySet(modifications) {
    const baseVersion = this.#querySet++;
    this.#send({ type: "ModifyQuerySet", baseVersion, newVersion: this.#querySet, modifications });
  }

  /** Bring what is shown up to date, and tell everyone whose result is another one now. */
  #show() {
    const local = new LocalResults(this.#queries);
    for (const { optimistic } of this.#requests.values()) if (optimistic) guarded(() => optimistic(local));
    for (const query of this.#queries.values()) query.shown = local.outcome(query.key);
    for (const query of [...this.#queries.values()]) {
      for (const listener of [...query.listeners]) this.#deliver(query, listener);
    }
  }

  #deliver(query, listener) {
    const outcome = query.shown;
    if (outcome === undefined || outcome === listener.seen || !query.listeners.has(listener)) return;
    listener.seen = outcome;
    guarded(() => ("error" in outcome ? listener.onError(outcome.error) : listener.onValue(outcome.value)));
  }

  // ------------------------------------------------------------------ calls

  async #request(type, path, args, optimistic) {
    this.#mustBeOpenToUse();
    const encodedArgs = encodeValue(args, "args");
    const requestId = this.#nextRequestId++;
    const message = { type, requestId, udfPath: path, args: [encodedArgs] };
    const settled = new Promise((resolve, reject) => {
      this.#requests.set(requestId, {
        message,
        optimistic,
        resolve,
        reject,
        socket: null, // the one it was last sent on
        answer: null, // {ts, value} of a mutation that is committed but not visible yet
      });
    });
    if (optimistic) this.#show();
    this.#sendChanges(); // in the order of the calls
    this.#sendRequest(this.#requests.get(requestId));
    return settled;
  }

  #sendRequest(request) {
    if (!this.#isOpen || this.#isHeld || request === undefined) return;
    request.socket = this.#socket;
    this.#send(request.message);
  }

  // ------------------------------------------------------------------ signing in

  #forgetAuth() {
    clearTimeout(this.#auth?.renewTimer);
    this.#auth = null;
  }

  /** Get a token before anything else is sent: what waits is to run as its user. */
  async #fetchTokenFirst(auth, isForced) {
    this.#isHeld = true;
    if (await this.#fetchToken(auth, isForced)) this.#release();
  }

  /** Get a fresh token while the present one is good. */
  async #renewToken(auth) {
    if (!(await this.#fetchToken(auth, true)) || !this.#isOpen || this.#isHeld) return;
    if (auth.token === this.#tokenSent) this.#planRenewal(auth);
    else this.#authenticate();
  }

  /** Ask the application, twice if need be. False if the answer is of no interest any more. */
  async #fetchToken(auth, isForced) {
    clearTimeout(auth.renewTimer);
    const fetch = ++auth.fetchCount;
    let token = null;
    for (const forceRefreshToken of [isForced, true]) {
      try {
        token = (await auth.fetchToken({ forceRefreshToken })) || null;
      } catch (error) {
        console.error(error);
      }
      if (this.#auth !== auth || auth.fetchCount !== fetch) return false;
      auth.isFresh = forceRefreshToken;
      if (token !== null) break;
    }
    auth.token = token;
    auth.renewAt = token === null || !auth.isFresh ? Infinity : timeToRenew(token);
    if (token === null) this.#reportAuth(auth, false);
    return true;
  }

  #authenticate() {
    const token = this.#auth?.token ?? null;
    if (!this.#isOpen || token === this.#tokenSent) return;
    this.#tokenSent = token;
    const baseVersion = this.#identity++;
    if (token === null) this.#send({ type: "Authenticate", baseVersion, tokenType: "None" });
    else this.#send({ type: "Authenticate", baseVersion, tokenType: "User", value: token });
  }

  /** Send who the user is, and then all that was held back. */
  #release() {
    this.#isHeld = false;
    if (!this.#isOpen) return;
    this.#authenticate();
    if (this.#hasQuerySet) this.#sendChanges();
    else this.#sendQuerySet([...this.#queries.values()].map(addition));
    this.#hasQuerySet = true;
    for (const request of this.#requests.values()) {
      if (request.answer === null && request.socket !== this.#socket) this.#sendRequest(request);
    }
  }

  /** The server has accepted the token. */
  #noteAccepted() {
    const auth = this.#auth;
    if (auth === null || auth.token === null || auth.token !== this.#tokenSent) return;
    auth.refusals = 0;
    this.#reportAuth(auth, true);
    if (this.#auth !== auth) return; // by what the listener did
    // The first token may be an old one out of a cache, near its end.
    if (auth.isFresh) this.#planRenewal(auth);
    else this.#renewToken(auth);
  }

  #planRenewal(auth) {
    clearTimeout(auth.renewTimer);
    if (auth.renewAt === Infinity) return;
    const delay = Math.min(Math.max(auth.renewAt - Date.now(), 0), TIMER_MS_MAX);
    auth.renewTimer = setTimeout(() => this.#renewToken(auth), delay);
  }

  /** A token was refused, or has expired in use. The server closes the socket after saying so. */
  #applyAuthError({ error, baseVersion, authUpdateAttempted }) {
    const auth = this.#auth;
    // Not about the token that we have now, but one before it.
    const isOld = authUpdateAttempted ? baseVersion + 1 < this.#identity : this.#version.identity < this.#identity;
    const isAboutToken = auth !== null && auth.token !== null && !this.#isHeld && !isOld;
    this.#reconnect("AuthError", RETRY_BASE_LOCAL_MS);
    if (!isAboutToken) return;
    if (authUpdateAttempted && ++auth.refusals > FRESH_TOKENS_TRIED_MAX) {
      console.error(`the server refuses the tokens: ${error}`);
      clearTimeout(auth.renewTimer);
      auth.fetchCount++;
      auth.token = null;
      this.#reportAuth(auth, false);
    } else {
      this.#fetchTokenFirst(auth, true);
    }
  }

  #reportAuth(auth, isAuthenticated) {
    if (auth.reported === isAuthenticated) return;
    auth.reported = isAuthenticated;
    guarded(() => auth.onChange(isAuthenticated));
  }

  // ------------------------------------------------------------------ messages from the server

  #receive(text) {
    const message = JSON.parse(text);
    switch (message.type) {
      case "Transition":
        return this.#applyTransition(message);
      case "MutationResponse":
      case "ActionResponse":
        return this.#applyResponse(message);
      case "AuthError":
        return this.#applyAuthError(message);
      case "Ping":
        return;
      case "FatalError":
        console.error(message.error);
        return this.#end(new ConnectionError(`the server ended the connection for good: ${message.error}`));
      default:
        throw new ProtocolError(`unknown message ${JSON.stringify(message.type)}`);
    }
  }

  /** Move every result from one snapshot to the next. All is read before anything changes. */
  #applyTransition({ startVersion, endVersion, modifications }) {
    const ts = this.#checkedEnd(startVersion, endVersion);
    const byId = new Map([...this.#queries.values()].map((query) => [query.id, query]));
    const updates = modifications
      .filter((modification) => modification.type !== "QueryRemoved" && byId.has(modification.queryId))
      .map((modification) => readUpdate(modification, byId.get(modification.queryId)));

    this.#version = endVersion;
    if (ts > this.#maxTs) this.#maxTs = ts;
    for (const { query, result, journal, logLines } of updates) {
      query.result = result;
      query.isFresh = true;
      if (journal !== undefined) query.journal = journal;
      this.#log(query.path, logLines);
    }
    const visible = [...this.#requests.values()].filter(({ answer }) => answer !== null && answer.ts <= ts);
    for (const { message } of visible) this.#requests.delete(message.requestId);
    this.#show(); // before the promises: who awaits a mutation sees its effect
    for (const { resolve, answer } of visible) resolve(answer.value);
    this.#noteCaughtUp();
    if (endVersion.identity > startVersion.identity && endVersion.identity === this.#identity) this.#noteAccepted();
  }

  #checkedEnd(start, end) {
    const now = this.#version;
    if (start.querySet !== now.querySet || start.identity !== now.identity || start.ts !== now.ts) {
      throw new ProtocolError(`a transition from ${JSON.stringify(start)} cannot follow ${JSON.stringify(now)}`);
    }
    const ts = readTimestamp(end.ts);
    const isPossible =
      end.querySet >= now.querySet &&
      end.querySet <= this.#querySet &&
      end.identity >= now.identity &&
      end.identity <= this.#identity;
    if (!isPossible || ts < readTimestamp(now.ts)) {
      throw new ProtocolError(`a transition from ${JSON.stringify(start)} cannot end at ${JSON.stringify(end)}`);
    }
    return ts;
  }

  #applyResponse(response) {
    const request = this.#requests.get(response.requestId);
    if (request === undefined || request.answer !== null) return;
    const path = request.message.udfPath;
    if (response.success && request.message.type === "Mutation") {
      request.answer = { ts: readTimestamp(response.ts), value: decodeValue(response.result) };
      if (request.answer.ts > this.#maxTs) this.#maxTs = request.answer.ts;
    } else {
      const settle = response.success
        ? request.resolve.bind(null, decodeValue(response.result))
        : request.reject.bind(null, readError(path, response.result, response));
      this.#requests.delete(response.requestId);
      if (request.optimistic) this.#show();
      settle();
      this.#noteCaughtUp();
    }
    this.#log(path, response.logLines);
  }

  #log(path, lines) {
    for (const line of lines) guarded(() => this.#onLog(path, line));
  }

  // ------------------------------------------------------------------ the socket

  #connect() {
    this.#setStatus("connecting");
    const socket = new this.#WebSocket(this.#address);
    const ifCurrent = (handler) => (event) => void (this.#socket === socket && handler(event));
    this.#socket = socket;
    socket.onopen = ifCurrent(() => this.#begin());
    socket.onmessage = ifCurrent((event) => this.#hear(event.data));
    socket.onclose = ifCurrent((event) => {
      const isOverload = event.code === CLOSE_TRY_AGAIN_LATER;
      const reason = event.reason || `closed with code ${event.code}`;
      this.#reconnect(reason, isOverload ? RETRY_BASE_OVERLOADED_MS : RETRY_BASE_MS);
    });
    socket.onerror = () => {}; // a close event follows, and says more
    this.#watchForSilence();
  }

  /** Tell a new socket who we are, what we watch and what we still wait for. */
  #begin() {
    this.#isOpen = true;
    this.#version = FIRST_VERSION;
    this.#querySet = 0;
    this.#hasQuerySet = false;
    this.#identity = 0;
    this.#tokenSent = null;
    this.#changes = [];
    const hello = {
      type: "Connect",
      sessionId: this.#sessionId,
      connectionCount: this.#connectionCount++,
      lastCloseReason: this.#lastCloseReason,
      clientTs: Date.now(),
    };
    if (this.#maxTs > 0n) hello.maxObservedTimestamp = writeTimestamp(this.#maxTs);
    this.#send(hello);
    for (const query of this.#queries.values()) query.isFresh = false;
    if (!this.#isHeld) this.#release();
    this.#setStatus("connected");
  }

  #hear(text) {
    this.#watchForSilence();
    try {
      this.#receive(text);
    } catch (error) {
      if (this.#status === "closed") return;
      console.error(error);
      this.#reconnect(`ProtocolError: ${error.message}`.slice(0, 120), RETRY_BASE_MS);
    }
  }

  #watchForSilence() {
    clearTimeout(this.#inactivityTimer);
    this.#inactivityTimer = setTimeout(() => this.#reconnect("InactiveServer", RETRY_BASE_LOCAL_MS), INACTIVITY_MS);
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #reconnect(reason, baseMs) {
    this.#dropSocket();
    this.#lastCloseReason = reason;
    for (const [requestId, request] of this.#requests) {
      if (request.message.type !== "Action" || request.socket === null) continue;
      this.#requests.delete(requestId);
      request.reject(new ConnectionError(`the connection was lost while ${request.message.udfPath} ran`));
    }
    const delay = Math.min(baseMs * 2 ** this.#retries++, RETRY_LONGEST_MS) * (0.5 + Math.random());
    this.#retryTimer = setTimeout(this.#retryNow, delay);
    this.#setStatus("disconnected");
  }

  #retryNow = () => {
    if (this.#status !== "disconnected") return;
    clearTimeout(this.#retryTimer);
    this.#connect();
  };

  #dropSocket() {
    const socket = this.#socket;
    this.#socket = null;
    this.#isOpen = false;
    this.#hasQuerySet = false;
    clearTimeout(this.#inactivityTimer);
    socket?.close();
  }

  /** A socket has caught up when all that an earlier one left open is answered, and the token accepted. */
  #noteCaughtUp() {
    if (this.#retries === 0) return;
    const isWaiting =
      this.#isHeld ||
      this.#version.identity !== this.#identity ||
      [...this.#queries.values()].some((query) => !query.isFresh) ||
      [...this.#requests.values()].some((request) => request.answer === null);
    if (!isWaiting) this.#retries = 0;
  }

  #setStatus(status) {
    if (this.#status === status) return;
    this.#status = status;
    for (const listener of [...this.#statusListeners]) guarded(() => listener(status));
  }

  #end(error) {
    if (this.#status === "closed") return;
    clearTimeout(this.#retryTimer);
    globalThis.removeEventListener?.("online", this.#retryNow);
    this.#forgetAuth();
    this.#dropSocket();
    for (const { reject } of this.#requests.values()) reject(error);
    this.#requests.clear();
    for (const { listeners } of this.#queries.values()) {
      for (const listener of listeners) listener.onEnd?.(error);
      listeners.clear();
    }
    this.#queries.clear();
    this.#setStatus("closed");
    this.#statusListeners.clear();
  }

  #mustBeOpenToUse() {
    if (this.#status === "closed") throw new ConnectionError("the client is closed");
  }
}

function addition(query) {
  return { type: "Add", queryId: query.id, udfPath: query.path, args: [query.args], journal: query.journal };
}

function readUpdate(modification, query) {
  const { type, journal, logLines } = modification;
  if (type === "QueryUpdated") return { query, journal, logLines, result: { value: decodeValue(modification.value) } };
  if (type !== "QueryFailed") throw new ProtocolError(`unknown modification ${JSON.stringify(type)}`);
  return { query, journal, logLines, result: { error: readError(query.path, modification.errorMessage, modification) } };
}
