// A window that stays open while the server goes away and comes back.

import { createInterface } from "node:readline";
import { openBrowser, openWindow } from "./browser.js";

const [url] = process.argv.slice(2);
const input = createInterface({ input: process.stdin });
const told = input[Symbol.asyncIterator]();
const problems = [];
const browser = await openBrowser();
const page = await openWindow(browser, url, problems);
const status = (name) => page.locator(`#status[data-status="${name}"]`).waitFor();

await status("connected");
await page.fill("#name", "Ada");
await page.click("#join-form button");
await page.fill("#place", "Lake Bled");
await page.fill("#text", "Before.");
await page.click("#post-form button");
await page.locator(".post", { hasText: "Before." }).waitFor();
console.log("ready for the stop");

await told.next();
await page.locator('#status:not([data-status="connected"])').waitFor();
await page.locator(".post", { hasText: "Before." }).waitFor(); // the last state stays on the page
await page.click(".like"); // waits for the server, shown at once
await page.locator('.count:text-is("1")').waitFor();
console.log("ready for the start");

await told.next();
await status("connected");
await page.fill("#place", "Guincho");
await page.fill("#text", "After.");
await page.click("#post-form button");
await page.locator(".post", { hasText: "After." }).waitFor();
await page.reload();
await page.locator(".post", { hasText: "Before." }).locator('.count:text-is("1")').waitFor();
if (problems.length > 0) throw new Error(problems.join("\n"));
await browser.close();
input.close();
console.log("all holds");
