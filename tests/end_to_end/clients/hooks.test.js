// What else front ends are made of: the hooks of convex/react, under jsdom, the helpers of
// convex/nextjs, and the clients of convex/browser, each as its documentation shows it.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { JSDOM } from "jsdom";
import { token } from "./tokens.js";

const url = process.env.TIDEWELL_URL;
const dom = new JSDOM("<!doctype html><body>", { url: "http://localhost/" });
globalThis.window = dom.window;
globalThis.document = dom.window.document;
globalThis.navigator ??= dom.window.navigator; // Node 20 has none, later ones have their own
globalThis.WebSocket ??= dom.window.WebSocket; // the same
globalThis.IS_REACT_ACT_ENVIRONMENT = false; // the server decides when something changes, not act()

const { Component, createElement: h, useEffect, useState } = await import("react");
const { createRoot } = await import("react-dom/client");
const react = await import("convex/react");
const { ConvexProviderWithClerk } = await import("convex/react-clerk");
const { fetchAction, fetchMutation, fetchQuery, preloadQuery, preloadedQueryResult } = await import("convex/nextjs");
const { BaseConvexClient, ConvexClient, ConvexHttpClient } = await import("convex/browser");
const { anyApi, getFunctionName, makeFunctionReference } = await import("convex/server");
const { ConvexError } = await import("convex/values");

const { ConvexProvider, ConvexReactClient } = react;
const api = anyApi.shapes;
const seconds = (count) => ({ timeout: count * 1000 });
const quiet = { logger: false };
const open = [];
after(async () => {
  for (const end of open) await end();
  dom.window.close();
});

/** Mounts `useIt` in a component below `provider`; what it returned at each rendering can be waited for. */
function mount(useIt, { client = reactClient(), provider = (inside) => h(ConvexProvider, { client }, inside) } = {}) {
  const states = [];
  const waiting = new Set();
  const place = document.body.appendChild(document.createElement("div"));
  const root = createRoot(place);
  let failure;
  const note = (state) => {
    states.push(state);
    queueMicrotask(() => [...waiting].forEach((look) => look()));
  };
  function Inside({ input }) {
    note(useIt(input));
    return null;
  }
  class Boundary extends Component {
    state = {};
    static getDerivedStateFromError(error) {
      failure = error;
      return { error };
    }
    render() {
      if (this.state.error) note({ error: failure });
      return this.state.error ? null : this.props.children;
    }
  }
  const draw = (input) => root.render(provider(h(Boundary, null, h(Inside, { input }))));
  const shown = (holds) =>
    new Promise((resolve) => {
      const look = () => {
        if (states.length === 0 || !holds(states.at(-1))) return;
        waiting.delete(look);
        resolve(states.at(-1));
      };
      waiting.add(look);
      look();
    });
  open.unshift(() => root.unmount());
  return { draw, shown, states, client, place };
}

function reactClient(options = {}) {
  const client = new ConvexReactClient(url, { ...quiet, ...options });
  open.push(() => client.close());
  return client;
}

test("useQuery: skipped, with other arguments, by name and by reference, shared", seconds(30), async () => {
  await fetchMutation(api.send_message, { author: "ann", body: "one" }, { url });
  await fetchMutation(api.send_message, { author: "ben", body: "two" }, { url });
  const reference = makeFunctionReference("shapes:find_messages");
  const mounted = mount((author) => ({
    bodies: react.useQuery(api.find_messages, author === null ? "skip" : { author }),
    same: react.useQuery(reference, author === null ? "skip" : { author }),
    text: react.useQuery("shapes:find_messages", author === null ? "skip" : { author }),
  }));
  mounted.draw(null);
  await mounted.shown(({ bodies, same, text }) => bodies === undefined && same === undefined && text === undefined);
  mounted.draw("ann");
  const first = await mounted.shown(({ bodies }) => bodies?.length === 1);
  assert.deepEqual([first.bodies, first.same, first.text], [["one"], ["one"], ["one"]]);
  mounted.draw("ben");
  await mounted.shown(({ bodies }) => bodies?.[0] === "two");
  mounted.draw(null);
  await mounted.shown(({ bodies }) => bodies === undefined);
});

test("useQueries: as many as the data wants, a failed one as its error", seconds(30), async () => {
  const mounted = mount(({ authors, least }) => {
    const [queries, setQueries] = useState({});
    const key = JSON.stringify([authors, least]);
    useEffect(() => {
      const wanted = authors.map((author) => [author, { query: api.find_messages, args: { author } }]);
      setQueries({ ...Object.fromEntries(wanted), guard: { query: api.guarded, args: { least } } });
    }, [key]);
    return react.useQueries(queries);
  });
  mounted.draw({ authors: ["ann"], least: 1000 });
  const first = await mounted.shown(({ ann, guard }) => ann && guard);
  assert.deepEqual(first.ann, ["one"]);
  assert.ok(first.guard instanceof ConvexError);
  assert.equal(first.guard.data.code, "TOO_FEW");
  mounted.draw({ authors: ["ann", "ben"], least: 1 });
  const second = await mounted.shown(({ ben, guard }) => ben && guard > 0);
  assert.deepEqual([second.ann, second.ben], [["one"], ["two"]]);
});

test("a query that fails reaches the error boundary with its data, and the client goes on", seconds(30), async () => {
  const mounted = mount((least) => react.useQuery(api.guarded, { least }));
  const complain = console.error;
  console.error = () => {}; // React reports what reaches a boundary
  mounted.draw(1000);
  const { error } = await mounted.shown((state) => state?.error);
  console.error = complain;
  assert.ok(error instanceof ConvexError);
  assert.equal(error.data.code, "TOO_FEW");
  assert.match(error.message, /\[CONVEX Q\(shapes:guarded\)\] \[Request ID: [0-9a-f]{16}\] Server Error/);
  assert.ok((await mounted.client.query(api.guarded, { least: 0 })) > 0);
});

test("useQuery with options gives errors as states", seconds(30), async () => {
  const mounted = mount((least) => react.useQuery_experimental({ query: api.guarded, args: { least } }));
  mounted.draw(1000);
  const { error } = await mounted.shown(({ status }) => status === "error");
  assert.equal(error.data.code, "TOO_FEW");
  mounted.draw(0);
  const { data } = await mounted.shown(({ status }) => status === "success");
  assert.ok(data > 0);
});

for (const name of ["usePaginatedQuery", "usePaginatedQuery_experimental"]) {
  test(`${name}: skipped, loaded, more, exhausted; other arguments begin anew`, seconds(60), async () => {
    const author = `writer of ${name}`;
    for (const body of ["a", "b", "c", "d", "e"]) await fetchMutation(api.send_message, { author, body }, { url });
    const mounted = mount((author) =>
      react[name](api.list_messages_of, author === null ? "skip" : { author }, { initialNumItems: 2 }),
    );
    const bodies = ({ results }) => results.map(({ body }) => body).join("");
    mounted.draw(null);
    await mounted.shown(({ status }) => status === "LoadingFirstPage");
    mounted.draw(author);
    const first = await mounted.shown(({ status }) => status === "CanLoadMore");
    assert.equal(bodies(first), "ed");
    assert.equal(first.isLoading, false);
    first.loadMore(2);
    await mounted.shown(({ status }) => status === "LoadingMore");
    const second = await mounted.shown(({ status }) => status === "CanLoadMore");
    assert.equal(bodies(second), "edcb");
    await mounted.client.mutation(api.send_message, { author, body: "f" });
    const grown = await mounted.shown((state) => bodies(state) === "fedcb");
    grown.loadMore(10);
    const all = await mounted.shown(({ status }) => status === "Exhausted");
    assert.equal(bodies(all), "fedcba");
    mounted.draw("ben");
    const other = await mounted.shown((state) => state.status === "Exhausted" && bodies(state) === "two");
    assert.equal(other.results.length, 1);
  });
}

test("optimistic updates of paginated queries show at once and settle", seconds(30), async () => {
  const { insertAtTop, optimisticallyUpdateValueInPaginatedQuery } = react;
  const mounted = mount(() => ({
    list: react.usePaginatedQuery(api.list_messages_of, { author: "opti" }, { initialNumItems: 10 }),
    send: react.useMutation(api.send_message).withOptimisticUpdate((store, { author, body }) => {
      insertAtTop({
        paginatedQuery: api.list_messages_of,
        argsToMatch: { author },
        localQueryStore: store,
        item: { id: "new", body },
      });
      optimisticallyUpdateValueInPaginatedQuery(store, api.list_messages_of, { author }, (item) =>
        item.id === "new" ? { ...item, body: `${item.body}…` } : item,
      );
    }),
  }));
  mounted.draw();
  const { send } = await mounted.shown(({ list }) => list.status === "Exhausted");
  const sent = send({ author: "opti", body: "hello" });
  const local = await mounted.shown(({ list }) => list.results.length === 1);
  assert.deepEqual(local.list.results, [{ id: "new", body: "hello…" }]);
  await sent;
  await mounted.shown(({ list }) => list.results[0].body === "hello" && list.results.length === 1);
  assert.ok(mounted.states.every(({ list }) => list.results.length <= 1));
});

test("useAction, useConvex and useConvexConnectionState", seconds(30), async () => {
  const mounted = mount(() => ({
    shout: react.useAction(api.shout),
    client: react.useConvex(),
    connection: react.useConvexConnectionState(),
    bodies: react.useQuery(api.find_messages, { author: "loud" }),
  }));
  mounted.draw();
  const state = await mounted.shown(({ connection, bodies }) => connection.isWebSocketConnected && bodies);
  const { said, at } = await state.shout({ author: "loud", body: "hey" });
  assert.deepEqual(said, ["HEY"]);
  assert.ok(Math.abs(at - Date.now()) < 60_000);
  await mounted.shown(({ bodies }) => bodies.length === 1);
  assert.equal(state.client, mounted.client);
  const settled = await mounted.shown(({ connection }) => !connection.hasInflightRequests);
  assert.equal(settled.connection.hasEverConnected, true);
  assert.equal(settled.connection.connectionCount, 1);
  assert.equal(settled.connection.connectionRetries, 0);
  assert.equal(settled.connection.inflightMutations + settled.connection.inflightActions, 0);
  assert.deepEqual(await state.client.query(api.find_messages, { author: "loud" }), ["HEY"]);
  const watch = state.client.watchQuery(api.find_messages, { author: "loud" });
  assert.deepEqual(watch.localQueryResult(), ["HEY"]);
  state.client.prewarmQuery({ query: api.count, args: {} });
});

test("a preloaded query is shown from the page and followed from the server", seconds(30), async () => {
  const preloaded = await preloadQuery(api.find_messages, { author: "pre" }, { url });
  assert.deepEqual(preloadedQueryResult(preloaded), []);
  const onPage = JSON.parse(JSON.stringify(preloaded)); // it travels inside the HTML
  const mounted = mount(() => react.usePreloadedQuery(onPage));
  mounted.draw();
  assert.deepEqual(await mounted.shown(() => true), []);
  await fetchMutation(api.send_message, { author: "pre", body: "loaded" }, { url });
  await mounted.shown((bodies) => bodies.length === 1);
  assert.deepEqual(await fetchQuery(api.find_messages, { author: "pre" }, { url }), ["loaded"]);
  const { said } = await fetchAction(api.shout, { author: "pre", body: "again" }, { url });
  assert.deepEqual(said, ["loaded", "AGAIN"]);
  assert.equal(getFunctionName(api.count), "shapes:count");
  assert.equal(
    await fetchQuery(api.my_secrets, {}, { url, token: token("pre", 60) }).then(({ owner }) => owner),
    "pre",
  );
});

/** What `useAuth` of Clerk's package gives, for one who can sign in and out. */
function clerk(person) {
  return function useAuth() {
    const [name, setName] = useState(person.name);
    person.become = setName;
    return {
      isLoaded: true,
      isSignedIn: name !== null,
      getToken: async ({ template, skipCache }) => {
        person.asked.push({ template, skipCache });
        return name === null ? null : token(name, 3600);
      },
      orgId: undefined,
      orgRole: undefined,
      sessionId: name,
      sessionClaims: undefined,
    };
  };
}

test("Clerk's provider: Authenticated, Unauthenticated and AuthLoading by turns", seconds(30), async () => {
  const person = { name: null, asked: [] };
  const useAuth = clerk(person);
  const client = reactClient();
  const label = (name) => h("b", null, name);
  const parts = () => [
    h(react.Authenticated, { key: 1 }, label("in")),
    h(react.Unauthenticated, { key: 2 }, label("out")),
    h(react.AuthLoading, { key: 3 }, label("loading")),
  ];
  const mounted = mount(
    () => {
      const auth = react.useConvexAuth();
      const mine = react.useQuery(api.my_secrets, auth.isAuthenticated ? {} : "skip");
      return { ...auth, mine };
    },
    { client, provider: (inside) => h(ConvexProviderWithClerk, { client, useAuth }, inside, parts()) },
  );
  mounted.draw();
  await mounted.shown(({ isLoading, isAuthenticated }) => !isLoading && !isAuthenticated);
  assert.equal(mounted.place.textContent, "out");
  person.become("cleo");
  await mounted.shown(({ mine }) => mine?.owner === "cleo");
  assert.equal(mounted.place.textContent, "in");
  assert.deepEqual(person.asked.slice(0, 2), [
    { template: "convex", skipCache: false },
    { template: "convex", skipCache: true },
  ]);
  person.become(null);
  await mounted.shown(({ isLoading, isAuthenticated }) => !isLoading && !isAuthenticated);
  person.become("dora");
  await mounted.shown(({ mine }) => mine?.owner === "dora");
  const owners = mounted.states.map(({ mine }) => mine?.owner).filter((owner, i, all) => owner !== all[i - 1]);
  assert.deepEqual(owners.filter(Boolean), ["cleo", "dora"]);
});

test("expectAuth waits with queries until there is a token", seconds(30), async () => {
  const client = reactClient({ expectAuth: true });
  const mounted = mount(() => react.useQuery(api.my_secrets), { client });
  mounted.draw();
  client.setAuth(async () => token("late", 3600));
  await mounted.shown((mine) => mine?.owner === "late");
});

test("ConvexClient: subscriptions that share, one-off calls, its own state", seconds(30), async () => {
  const client = new ConvexClient(url, quiet);
  open.push(() => client.close());
  const seen = [[], []];
  const both = new Promise((resolve) => {
    for (const values of seen) {
      client.onUpdate(api.find_messages, { author: "client" }, (value) => {
        values.push(value);
        if (seen.every((values) => values.at(-1)?.length === 1)) resolve();
      });
    }
  });
  const states = [];
  const stop = client.subscribeToConnectionState((state) => states.push(state));
  await client.mutation(api.send_message, { author: "client", body: "x" });
  await both;
  assert.deepEqual(client.client.localQueryResult("shapes:find_messages", { author: "client" }), ["x"]);
  const watched = client.onUpdate(api.find_messages, { author: "client" }, () => {});
  assert.deepEqual(watched.getCurrentValue(), ["x"]);
  watched();
  await assert.rejects(client.query(api.guarded, { least: 1000 }), (error) => error.data.code === "TOO_FEW");
  assert.deepEqual((await client.action(api.shout, { author: "client", body: "y" })).said, ["x", "Y"]);
  assert.equal(client.connectionState().isWebSocketConnected, true);
  assert.ok(states.some(({ inflightMutations }) => inflightMutations === 1));
  stop();
  const page = { numItems: 1, cursor: null };
  const once = await client.query(api.list_messages_of, { author: "client", paginationOpts: page });
  assert.equal(once.page.length, 1);
  assert.equal(once.isDone, false);
  const next = { numItems: 5, cursor: once.continueCursor };
  const rest = await client.query(api.list_messages_of, { author: "client", paginationOpts: next });
  assert.deepEqual([rest.page.map(({ body }) => body), rest.isDone], [["x"], true]);
});

test("ConvexClient.onPaginatedUpdate grows by its own loadMore", seconds(30), async () => {
  const client = new ConvexClient(url, quiet);
  open.push(() => client.close());
  for (const body of ["a", "b", "c"]) await client.mutation(api.send_message, { author: "pages", body });
  const states = [];
  await new Promise((resolve, reject) => {
    client.onPaginatedUpdate_experimental(
      api.list_messages_of,
      { author: "pages" },
      { initialNumItems: 2 },
      (state) => {
        states.push(state);
        if (state.status === "CanLoadMore") state.loadMore(2);
        if (state.status === "Exhausted") resolve();
      },
      reject,
    );
  });
  assert.deepEqual(
    states.at(-1).results.map(({ body }) => body),
    ["c", "b", "a"],
  );
});

test("ConvexClient.setAuth: signed in, refused as nobody", seconds(30), async () => {
  const client = new ConvexClient(url, quiet);
  open.push(() => client.close());
  const owner = new Promise((resolve) =>
    client.onUpdate(
      api.my_secrets,
      {},
      (mine) => resolve(mine.owner),
      () => {},
    ),
  );
  const confirmed = new Promise((resolve) => client.setAuth(async () => token("carl", 3600), resolve));
  assert.equal(await confirmed, true);
  assert.equal(await owner, "carl");
  assert.equal(client.getAuth().decoded.sub, "carl");
});

test("ConvexHttpClient: with a token, without, consistent, several at once", seconds(30), async () => {
  const http = new ConvexHttpClient(url, { ...quiet, auth: token("hana", 60) });
  assert.equal((await http.query(api.my_secrets)).owner, "hana");
  http.clearAuth();
  await assert.rejects(
    http.query(api.my_secrets),
    (error) => error instanceof ConvexError && error.data.code === "SIGNED_OUT",
  );
  http.setAuth(token("hugo", 60));
  await Promise.all([1, 2, 3].map((i) => http.mutation(api.keep_secret, { text: String(i) })));
  assert.deepEqual((await http.query(api.my_secrets)).texts, ["1", "2", "3"]);
  await http.mutation(api.keep_secret, { text: "4" }, { skipQueue: true });
  assert.equal((await http.consistentQuery(api.my_secrets)).texts.length, 4);
  assert.deepEqual((await http.action(api.shout, { author: "hugo", body: "z" })).said, ["Z"]);
});

test("BaseConvexClient: transitions name what changed", seconds(30), async () => {
  let changed;
  const first = new Promise((resolve) => (changed = resolve));
  const client = new BaseConvexClient(url, (tokens) => changed(tokens), quiet);
  open.push(() => client.close());
  const { queryToken, unsubscribe } = client.subscribe("shapes:find_messages", { author: "base" });
  assert.deepEqual(await first, [queryToken]);
  assert.deepEqual(client.localQueryResult("shapes:find_messages", { author: "base" }), []);
  assert.equal(client.queryJournal("shapes:find_messages", { author: "base" }), null, "nothing to pin");
  unsubscribe();
});

test("a call with a wrong argument names it, and undefined is no argument", seconds(30), async () => {
  const client = reactClient();
  await assert.rejects(client.mutation(api.send_message, { author: 1, body: "x" }), /ArgumentValidationError/);
  await client.mutation(api.send_message, { author: "undef", body: "x", extra: undefined });
  await assert.rejects(client.query(anyApi.shapes.nothing, {}), /Could not find public function for 'shapes:nothing'/);
});
