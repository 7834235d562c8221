// Chromium for the tests of the front ends: two people, each in a window of their own.

import { chromium } from "playwright-core";

export async function openBrowser() {
  return chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
}

/** A new window with its own storage, in which a script error fails the test. */
export async function openWindow(browser, url, problems) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, reducedMotion: "reduce" });
  context.setDefaultTimeout(30_000);
  const page = await context.newPage();
  page.on("pageerror", (error) => problems.push(error.message));
  await page.goto(url);
  return page;
}
