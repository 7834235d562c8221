/**
 * Waypoint's page: plain DOM on tidewell.js. Subscriptions bring results, `draw...` puts them
 * on the page, forms and buttons call mutations; nothing is ever fetched again by hand.
 */

import { AppError, ConnectionError, TidewellClient } from "/tidewell.js";

const TEXT_LONGEST = 500;
const STATUS_TEXTS = {
  connecting: "Connecting…",
  connected: "Live",
  disconnected: "Offline, trying again…",
  closed: "Disconnected. Please reload the page.",
};

const client = new TidewellClient(location.origin);
const element = (id) => document.getElementById(id);

let me = null; // {_id, name} once known
let view = "newest";
let place = null; // show only posts about this one
let stopMe = () => {};
let stopPosts = () => {};

// ---------------------------------------------------------------- who I am

function becomeUser(userId) {
  localStorage.setItem("waypoint-user", userId);
  const stops = [
    client.subscribe("users:get_user", { user_id: userId }, (user) => (user ? drawMe(user) : leave()), leave),
    client.subscribe("welcome:inbox", { user_id: userId }, drawLetter, () => {}),
  ];
  stopMe = () => stops.forEach((stop) => stop());
}

function leave() {
  localStorage.removeItem("waypoint-user");
  stopMe();
  drawLetter([]);
  drawMe(null);
}

function drawMe(user) {
  const isSame = user?._id === me?._id;
  me = user;
  element("me").hidden = element("compose").hidden = user === null;
  element("join").hidden = user !== null;
  element("me-name").textContent = user?.name ?? "";
  if (!isSame) watchPosts();
}

function drawLetter([newest]) {
  element("letter").hidden = newest === undefined;
  element("letter-text").textContent = newest?.text ?? "";
}

// ---------------------------------------------------------------- posts

function postsQuery() {
  const viewer = me?._id; // left out while undefined
  if (place !== null) return ["posts:list_at_place", { place, viewer }];
  return [view === "popular" ? "posts:list_popular" : "posts:list_posts", { viewer }];
}

function watchPosts() {
  const stopOld = stopPosts;
  const [path, args] = postsQuery();
  let isFirst = true;
  stopPosts = client.subscribe(
    path,
    args,
    (posts) => {
      drawPosts(posts, { isFirst });
      isFirst = false;
    },
    showError,
  );
  stopOld(); // after the new one began, so that an unchanged query is not asked again
  element("filter").hidden = place === null;
  element("filter-place").textContent = place ?? "";
  for (const tab of document.querySelectorAll("[data-view]")) {
    tab.setAttribute("aria-pressed", String(tab.dataset.view === view && place === null));
  }
}

/** Keep the element of every post that stays, so that focus and scrolling stay as well. */
function drawPosts(posts, { isFirst }) {
  const list = element("posts");
  const present = new Map([...list.children].map((item) => [item.dataset.id, item]));
  const items = posts.map((post) => {
    const item = present.get(post._id) ?? createPost(post, { isNew: !isFirst });
    drawPost(item, post);
    return item;
  });
  for (const [id, item] of present) if (!posts.some((post) => post._id === id)) item.remove();
  items.forEach((item, i) => {
    if (list.children[i] !== item) list.insertBefore(item, list.children[i] ?? null);
  });
  list.setAttribute("aria-busy", "false");
  element("empty").hidden = posts.length > 0;
  element("empty").textContent = view === "popular" ? "Nothing is liked yet." : "No posts yet. Yours could be the first.";
}

function createPost(post, { isNew }) {
  const item = element("post-template").content.firstElementChild.cloneNode(true);
  item.dataset.id = post._id;
  item.classList.toggle("is-new", isNew);
  const avatar = item.querySelector(".avatar");
  avatar.textContent = initials(post.author_name);
  avatar.style.setProperty("--hue", hue(post.author_name));
  item.querySelector(".author").textContent = post.author_name;
  item.querySelector(".place").textContent = post.place;
  item.querySelector(".place").addEventListener("click", () => showPlace(post.place));
  item.querySelector(".text").textContent = post.text;
  item.querySelector("time").dateTime = new Date(post._creationTime).toISOString();
  item.querySelector(".like").addEventListener("click", () => toggleLike(item.post));
  return item;
}

function drawPost(item, post) {
  const count = item.querySelector(".count");
  const like = item.querySelector(".like");
  const isChanged = item.post !== undefined && item.post.likes !== post.likes;
  item.post = post;
  count.textContent = post.likes;
  if (isChanged) {
    count.classList.remove("is-changed");
    void count.offsetWidth; // lets the animation start again
    count.classList.add("is-changed");
  }
  like.setAttribute("aria-pressed", String(post.liked));
  like.setAttribute("aria-label", `Like the post about ${post.place}: ${post.likes} so far`);
  drawTime(item.querySelector("time"));
}

async function toggleLike({ _id: post_id, liked }) {
  if (me === null) {
    showNotice("Pick a name first, then your like counts.");
    element("name").focus();
    return;
  }
  const step = liked ? -1 : 1;
  const toggled = (post) => (post._id === post_id ? { ...post, liked: !liked, likes: post.likes + step } : post);
  const [path, args] = postsQuery();
  await attempt(() =>
    client.mutation(liked ? "posts:unlike" : "posts:like", { post_id, user_id: me._id }, {
      optimistic: (local) => local.set(path, args, (local.get(path, args) ?? []).map(toggled)),
    }),
  );
}

function showPlace(name) {
  place = name;
  watchPosts();
  window.scrollTo({ top: 0 });
}

// ---------------------------------------------------------------- forms

/** Run something for a form: its button waits meanwhile, and an error is shown to the person. */
async function submitted(form, work) {
  const button = form.querySelector("[type=submit]");
  button.disabled = true;
  const isDone = await attempt(work);
  button.disabled = false;
  return isDone;
}

async function attempt(work) {
  try {
    await work();
    return true;
  } catch (error) {
    showError(error);
    return false;
  }
}

element("join-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  await submitted(form, async () => {
    const userId = await client.mutation("users:sign_in", { name: form.elements.namedItem("name").value });
    becomeUser(userId);
    form.reset();
    await client.action("welcome:send_welcome", { user_id: userId });
  });
});

element("post-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const { place: { value: about }, text: { value: text } } = form.elements;
  const isDone = await submitted(form, () => client.mutation("posts:create_post", { author: me._id, place: about, text }));
  if (!isDone) return;
  form.reset();
  drawRoom();
  view = "newest";
  place = null;
  watchPosts();
});

function drawRoom() {
  const left = TEXT_LONGEST - element("text").value.length;
  element("room").textContent = left;
  element("room").classList.toggle("is-over", left < 0);
}

element("text").addEventListener("input", drawRoom);
element("sign-out").addEventListener("click", () => {
  leave();
  element("name").focus();
});
element("filter-clear").addEventListener("click", () => {
  place = null;
  watchPosts();
});
for (const tab of document.querySelectorAll("[data-view]")) {
  tab.addEventListener("click", () => {
    view = tab.dataset.view;
    place = null;
    watchPosts();
  });
}

// ---------------------------------------------------------------- notices and small things

function showError(error) {
  if (error instanceof AppError) return showNotice(error.data?.message ?? String(error.data));
  if (error instanceof ConnectionError) return showNotice("The connection was lost before that was done. Please try again.");
  console.error(error);
  showNotice(`Something went wrong: ${error.message}`);
}

function showNotice(text) {
  const notice = document.createElement("div");
  notice.className = "notice";
  const message = document.createElement("span");
  message.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "quiet";
  close.textContent = "Dismiss";
  close.addEventListener("click", () => notice.remove());
  notice.append(message, close);
  element("notices").replaceChildren(notice);
}

function initials(name) {
  return name.split(/\s+/, 2).map((word) => [...word][0]).join("").toUpperCase();
}

function hue(name) {
  return [...name].reduce((sum, character) => (sum * 31 + character.codePointAt(0)) % 360, 7);
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

function drawTime(time) {
  const then = new Date(time.dateTime);
  const seconds = Math.min(0, (then - Date.now()) / 1000);
  const [unit, length] = [["day", 86_400], ["hour", 3_600], ["minute", 60]].find(([, length]) => -seconds >= length) ?? [];
  time.textContent = unit ? relative.format(Math.round(seconds / length), unit) : "just now";
  time.title = then.toLocaleString();
}

setInterval(() => document.querySelectorAll("time").forEach(drawTime), 30_000);

client.onStatus((status) => {
  element("status").dataset.status = status;
  element("status-text").textContent = STATUS_TEXTS[status];
});

const known = localStorage.getItem("waypoint-user");
if (known !== null) becomeUser(known);
watchPosts();
