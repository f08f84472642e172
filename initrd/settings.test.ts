import { expect, test } from "vitest";
import { DEFAULT_SETTINGS, parseSettings } from "./settings.ts";

test.each([
  ["an empty file", "", DEFAULT_SETTINGS],
  ["keys it does not know", '[root]\nfuture = 1\n[home]\nmount = "x"\n', DEFAULT_SETTINGS],
  ["transient root", "[root]\ntransient = true\n", { ...DEFAULT_SETTINGS, rootTransient: true }],
  ["transient as a flag", "[etc]\ntransient = true\n", { ...DEFAULT_SETTINGS, etc: "transient" }],
  [
    "mount before the flag",
    '[etc]\ntransient = true\nmount = "overlay"\n[var]\nmount = "none"\n',
    { rootTransient: false, etc: "overlay", var: "none" },
  ],
  [
    "the other spellings",
    '[etc]\nmount = "root"\n[var]\nmount = "volatile"\n',
    { rootTransient: false, etc: "none", var: "transient" },
  ],
])("parseSettings reads %s", (_, text, expected) => {
  expect(parseSettings(text, "conf")).toEqual(expected);
});

test.each([
  ["no TOML", "[etc\nmount", 'Cannot read "conf": '],
  ["an unknown kind", '[etc]\nmount = "bond"\n', '"conf": [etc] mount must be one of none, root,'],
  ["a number", "[var]\nmount = 1\n", '"conf": [var] mount must be one of'],
  ["no boolean", '[root]\ntransient = "yes"\n', '"conf": [root] transient must be true or false'],
  ["no table", "root = 1\n", '"conf": [root] must be a table'],
])("parseSettings refuses %s", (_, text, message) => {
  expect(() => parseSettings(text, "conf")).toThrow(message);
});
