// The React front end on the official client, built by Vite, in two windows of a real browser:
// useQuery draws the list, useMutation posts and likes, useAction sends the letter.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openBrowser, openWindow } from "./browser.js";

const url = process.env.WEB_URL;
const problems = [];
let browser, ada, grace;

const postAbout = (page, place) => page.locator(".posts > li", { hasText: place });

async function join(page, name) {
  await page.fill('[name="name"]', name);
  await page.click('button:text-is("Come along")');
  await page.locator('[name="place"]').waitFor();
}

before(async () => {
  browser = await openBrowser();
  [ada, grace] = [await openWindow(browser, url, problems), await openWindow(browser, url, problems)];
});
after(async () => {
  await browser.close();
  assert.deepEqual(problems, []);
});

test("useMutation signs in and useAction sends the letter", async () => {
  await join(ada, "Ada");
  await join(grace, "Grace");
  await ada.locator(".letter", { hasText: "Welcome to Waypoint, Ada!" }).waitFor();
});

test("useQuery shows a post of one window in the other", async () => {
  await ada.fill('[name="place"]', "Lake Bled");
  await ada.fill('[name="text"]', "Go early.");
  await ada.click('button:text-is("Post")');
  await postAbout(grace, "Lake Bled").waitFor();
});

test("a like in one window counts in the other", async () => {
  await postAbout(ada, "Lake Bled").locator(".like").click();
  await postAbout(grace, "Lake Bled").locator('.count:text-is("1")').waitFor();
  await postAbout(grace, "Lake Bled").locator(".like").click();
  await postAbout(ada, "Lake Bled").locator('.count:text-is("2")').waitFor();
  await postAbout(ada, "Lake Bled").locator(".like").click();
  await postAbout(grace, "Lake Bled").locator('.count:text-is("1")').waitFor();
});

test("an AppError arrives as a ConvexError with its data", async () => {
  await ada.fill('[name="place"]', " ");
  await ada.fill('[name="text"]', "Nowhere in particular.");
  await ada.click('button:text-is("Post")');
  await ada.locator('[role="alert"]', { hasText: "Please fill in the place." }).waitFor();
});
