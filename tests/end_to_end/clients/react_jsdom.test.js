// The official React client under jsdom, as front-end developers test their components:
// useQuery, useMutation and useAction against the real server, every rendered value recorded.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { JSDOM } from "jsdom";

const url = process.env.TIDEWELL_URL;
const dom = new JSDOM("<!doctype html><div id=root></div>", { url: "http://localhost/" });
globalThis.window = dom.window;
globalThis.document = dom.window.document;
globalThis.navigator ??= dom.window.navigator; // Node 20 has none, later ones have their own
globalThis.WebSocket ??= dom.window.WebSocket; // the same
globalThis.IS_REACT_ACT_ENVIRONMENT = false; // the server decides when something changes, not act()

const { createElement: h } = await import("react");
const { createRoot } = await import("react-dom/client");
const { ConvexProvider, ConvexReactClient, useAction, useMutation, useQuery } = await import("convex/react");
const { anyApi } = await import("convex/server");

const rendered = [];
const waiting = new Set();
let calls;

/** Resolves with the first rendered state, from now on or already there, for which `holds` is true. */
function shown(holds) {
  return new Promise((resolve) => {
    const look = () => {
      const state = rendered.at(-1);
      if (state === undefined || !holds(state)) return;
      waiting.delete(look);
      resolve(state);
    };
    waiting.add(look);
    look();
  });
}

function Places({ user }) {
  const posts = useQuery(anyApi.posts.list_posts, { limit: 5 });
  const letters = useQuery(anyApi.welcome.inbox, user === null ? "skip" : { user_id: user });
  calls = {
    signIn: useMutation(anyApi.users.sign_in),
    post: useMutation(anyApi.posts.create_post),
    like: useMutation(anyApi.posts.like),
    welcome: useAction(anyApi.welcome.send_welcome),
  };
  rendered.push({ posts, letters });
  queueMicrotask(() => [...waiting].forEach((look) => look()));
  return h("ul", null, (posts ?? []).map((post) => h("li", { key: post._id }, `${post.place}: ${post.likes}`)));
}

const client = new ConvexReactClient(url);
const root = createRoot(document.getElementById("root"));
const draw = (user) => root.render(h(ConvexProvider, { client }, h(Places, { user })));
let user, post;

before(() => draw(null));
after(async () => {
  root.unmount();
  await client.close();
  dom.window.close();
});

test("useQuery is undefined first and the server's value then", async () => {
  const state = await shown(({ posts }) => posts !== undefined);
  assert.deepEqual(state.posts, []);
  assert.equal(rendered[0].posts, undefined);
});

test("useMutation resolves after its effect is rendered", async () => {
  user = await calls.signIn({ name: "Ada" });
  post = await calls.post({ author: user, place: "Lake Bled", text: "Go early." });
  const state = await shown(({ posts }) => posts?.length === 1);
  assert.equal(state.posts[0]._id, post);
  await calls.like({ post_id: post, user_id: user });
  await shown(({ posts }) => posts[0].likes === 1);
  assert.equal(document.querySelector("li").textContent, "Lake Bled: 1");
});

test("no rendered count ever goes back", () => {
  const counts = rendered.map(({ posts }) => posts?.[0]?.likes ?? 0);
  assert.deepEqual(counts, counts.toSorted());
});

test("useAction runs and a skipped query starts when its arguments are there", async () => {
  await calls.welcome({ user_id: user });
  draw(user);
  const state = await shown(({ letters }) => letters?.length === 1);
  assert.match(state.letters[0].text, /Welcome to Waypoint, Ada!/);
});
