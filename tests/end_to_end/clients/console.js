// Opens a page and repeats what it writes to its console. Further arguments are texts of a button:
// each is waited for, then the button is clicked.

import { createInterface } from "node:readline";
import { openBrowser, openWindow } from "./browser.js";

const [url, ...texts] = process.argv.slice(2);
const told = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const problems = [];
const browser = await openBrowser();
const page = await openWindow(browser, "about:blank", problems);
page.on("console", async (message) => {
  const values = await Promise.all(message.args().map((each) => each.jsonValue()));
  console.log(`console: ${values.map((value) => JSON.stringify(value)).join(" ")}`);
});
await page.goto(url);
for (const text of texts) {
  await page.locator(`button:text-is("${text}")`).waitFor();
  console.log(`shown: ${text}`);
  await page.click("button");
}
await told.next();
await browser.close();
for (const problem of problems) console.error(problem);
process.exit(problems.length); // standard input would keep the process alive
