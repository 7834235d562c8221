import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as module from "../../engine/static/tidewell.js";

const page = readFileSync(new URL("../../docs/browser-client.md", import.meta.url), "utf8");
const matches = (pattern, text) => [...text.matchAll(pattern)].map(([, name]) => name).sort();

test("the page has every member of a client, and no other", () => {
  const headings = page.split("\n").filter((line) => line.startsWith("### ")).join("\n");
  const members = Object.getOwnPropertyNames(module.TidewellClient.prototype).filter((name) => name !== "constructor");
  assert.deepEqual(matches(/`client\.(\w+)/g, headings), members.sort());
});

test("the page names everything that the module exports", () => {
  for (const name of Object.keys(module)) assert.match(page, new RegExp(`\\b${name}\\b`));
});
