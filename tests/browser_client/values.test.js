import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeValue, encodeValue } from "../../engine/static/tidewell.js";

const bytes = (...numbers) => new Uint8Array(numbers).buffer;

// The vectors of the protocol.
const SPECIAL = [
  [1n, { $integer: "AQAAAAAAAAA=" }],
  [-1n, { $integer: "//////////8=" }],
  [2n ** 63n - 1n, { $integer: "/////////38=" }],
  [Infinity, { $float: "AAAAAAAA8H8=" }],
  [-Infinity, { $float: "AAAAAAAA8P8=" }],
  [NaN, { $float: "AAAAAAAA+H8=" }],
  [-0, { $float: "AAAAAAAAAIA=" }],
  [bytes(0x00, 0xff), { $bytes: "AP8=" }],
];

for (const [value, json] of SPECIAL) {
  test(`${String(value)} travels as ${JSON.stringify(json)}`, () => {
    assert.deepEqual(encodeValue(value), json);
    assert.deepEqual(decodeValue(json), value);
  });
}

test("plain values travel as themselves, fields in sorted order and without undefined", () => {
  const value = { b: [1, 2.5, "é😀", true, null], a: { nested: {} }, gone: undefined };
  const json = encodeValue(value);
  assert.equal(JSON.stringify(json), '{"a":{"nested":{}},"b":[1,2.5,"é😀",true,null]}');
  assert.deepEqual(decodeValue(json), { a: { nested: {} }, b: [1, 2.5, "é😀", true, null] });
});

test("a typed array travels as the bytes it shows, not as its whole buffer", () => {
  const view = new Uint8Array(bytes(9, 0x00, 0xff, 9), 1, 2);
  assert.deepEqual(encodeValue(view), { $bytes: "AP8=" });
});

test("a field called __proto__ stays a field", () => {
  const value = decodeValue(JSON.parse('{"__proto__": 1}'));
  assert.deepEqual(Object.entries(value), [["__proto__", 1]]);
  assert.equal(Object.getPrototypeOf(value), Object.prototype);
});

for (const [name, value] of [
  ["undefined", undefined],
  ["undefined in an array", [undefined]],
  ["a function", () => 1],
  ["a symbol", Symbol("s")],
  ["a date", new Date(0)],
  ["an integer beyond 64 bits", 2n ** 63n],
  ["half a surrogate pair", "\ud800"],
  ["a field that begins with $", { $set: 1 }],
  ["a field with a line break", { "a\nb": 1 }],
  ["a field that is too long", { ["a".repeat(1025)]: 1 }],
]) {
  test(`${name} is refused before it is sent`, () => {
    assert.throws(() => encodeValue(value, "args"), (error) => error instanceof TypeError && /^args/.test(error.message));
  });
}

for (const json of [
  { $float: "AAAAAAAA8D8=" }, // 1.0, an ordinary number
  { $integer: "AQ==" },
  { $integer: 1 },
  { $integer: "AQAAAAAAAAA=", b: 1 },
  { $set: [] },
]) {
  test(`${JSON.stringify(json)} from a server stands for no value`, () => {
    assert.throws(() => decodeValue(json), /stands for no value/);
  });
}
