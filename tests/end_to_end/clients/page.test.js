// The page without a build step, on tidewell.js, in two windows of a real browser.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openBrowser, openWindow } from "./browser.js";

const url = process.env.TIDEWELL_URL;
const problems = [];
let browser, ada, grace;

const postAbout = (page, place) => page.locator(".post", { hasText: place });
const likes = (page, place, count) => postAbout(page, place).locator(`.count:text-is("${count}")`);

async function join(page, name) {
  await page.fill("#name", name);
  await page.click("#join-form button");
  await page.locator("#compose").waitFor();
}

async function post(page, place, text) {
  await page.fill("#place", place);
  await page.fill("#text", text);
  await page.click("#post-form button");
  await postAbout(page, place).waitFor();
}

before(async () => {
  browser = await openBrowser();
  [ada, grace] = [await openWindow(browser, url, problems), await openWindow(browser, url, problems)];
});
after(async () => {
  await browser.close();
  assert.deepEqual(problems, []);
});

test("the page says that it is live", async () => {
  await ada.locator('#status[data-status="connected"]').waitFor();
});

test("who joins gets a letter, sent by an action", async () => {
  await join(ada, "Ada");
  await join(grace, "Grace");
  await grace.locator("#letter-text", { hasText: "Welcome to Waypoint, Grace!" }).waitFor();
});

test("a post shows at once in the other window, and its text stays text", async () => {
  await post(ada, "Lake Bled", "Go early. <img src=x onerror=\"document.title='broken'\">");
  const shown = postAbout(grace, "Lake Bled");
  await shown.waitFor();
  assert.match(await shown.locator(".text").textContent(), /^Go early. <img/);
  assert.equal(await shown.locator(".author").textContent(), "Ada");
  assert.equal(await grace.title(), "Waypoint");
});

test("a like counts in the other window, once per person, and can be taken back", async () => {
  await likes(grace, "Lake Bled", 0).waitFor();
  await postAbout(ada, "Lake Bled").locator(".like").click();
  await likes(grace, "Lake Bled", 1).waitFor();
  await postAbout(grace, "Lake Bled").locator(".like").click();
  await likes(ada, "Lake Bled", 2).waitFor();
  assert.equal(await postAbout(ada, "Lake Bled").locator(".like").getAttribute("aria-pressed"), "true");
  await postAbout(ada, "Lake Bled").locator(".like").click();
  await likes(grace, "Lake Bled", 1).waitFor();
  assert.equal(await postAbout(ada, "Lake Bled").locator(".like").getAttribute("aria-pressed"), "false");
});

test("the same name in a third window is the same person", async () => {
  const third = await openWindow(browser, url, problems);
  await join(third, "  GRACE ");
  await postAbout(third, "Lake Bled").locator('.like[aria-pressed="true"]').waitFor();
  await third.context().close();
});

test("what a function refuses is said in its own words", async () => {
  await ada.fill("#place", "Everywhere");
  await ada.fill("#text", "x".repeat(501));
  await ada.click("#post-form button");
  await ada.locator(".notice", { hasText: "The text may have 500 characters; yours has 501." }).waitFor();
  assert.equal(await ada.locator("#place").inputValue(), "Everywhere");
  await ada.click(".notice button");
});

test("most liked and one place are live queries of their own", async () => {
  await post(ada, "Guincho", "Windy.");
  await grace.click('[data-view="popular"]');
  await postAbout(grace, "Lake Bled").waitFor();
  await postAbout(grace, "Guincho").waitFor({ state: "detached" });
  await postAbout(ada, "Guincho").locator(".like").click();
  await postAbout(grace, "Guincho").waitFor();
  await grace.click('.place:text-is("Guincho")');
  await postAbout(grace, "Lake Bled").waitFor({ state: "detached" });
  await grace.click("#filter-clear");
  await postAbout(grace, "Lake Bled").waitFor();
});

test("a reload remembers who one is", async () => {
  await ada.reload();
  await ada.locator('#me-name:text-is("Ada")').waitFor();
  await ada.click("#sign-out");
  await ada.locator("#join").waitFor();
});
