// Take a picture of Waypoint's page, as somebody who has just joined sees it:
//
//   node screenshot.js URL FILE

import { openBrowser } from "./browser.js";

const [url, file] = process.argv.slice(2);
const browser = await openBrowser();
const page = await browser.newPage({ viewport: { width: 1100, height: 720 }, reducedMotion: "reduce" });
await page.goto(url);
await page.fill("#name", "Grace");
await page.click("#join-form button");
await page.locator("#letter").waitFor();
await page.locator(".post", { hasText: "Lake Bled" }).locator(".like").click();
await page.locator('.like[aria-pressed="true"]').waitFor();
await page.evaluate(() => document.activeElement.blur());
await page.mouse.move(0, 0);
await page.screenshot({ path: file });
await browser.close();
