import { resolve } from "node:path";
import { expect, test } from "vitest";
import { absolutePathReference, type ImageChoice, splitPathReference } from "./path-reference.ts";

const named = (name: string): ImageChoice => ({ kind: "name", name });

test.each<[string, readonly string[], string, ImageChoice | null]>([
  ["/a/b.tar", [], "/a/b.tar", null],
  ["/a/b.tar:v1", [], "/a/b.tar", named("v1")],
  ["/a/b.tar:", [], "/a/b.tar", null],
  ["/a/b.tar:example.com:5000/os:v1", ["/a/b.tar"], "/a/b.tar", named("example.com:5000/os:v1")],
  ["/a/b.tar:@0", [], "/a/b.tar", { kind: "index", index: 0 }],
  ["/a/b.tar:@12", [], "/a/b.tar", { kind: "index", index: 12 }],
  ["/a/b.tar:@-1", [], "/a/b.tar", named("@-1")],
  ["a:b/layout", ["a:b/layout"], "a:b/layout", null],
  ["a:b/layout:v1", ["a:b/layout"], "a:b/layout", named("v1")],
  // As containers/image reads it, whatever else there is.
  ["a:b/layout", ["a", "a:b/layout"], "a", named("b/layout")],
  ["a:b/layout", [], "a", named("b/layout")],
])("%s, where there is %j", (image, present, path, choice) => {
  expect(splitPathReference(image, (each) => present.includes(each))).toEqual({ path, choice });
});

test.each([
  ["x.tar", resolve("x.tar")],
  ["./d/../x.tar:v1", `${resolve("x.tar")}:v1`],
  ["x.tar:example.com/a/../b:v1", `${resolve("x.tar")}:example.com/a/../b:v1`],
  ["/a//b:v1", "/a/b:v1"],
])("%s from everywhere", (image, expected) => {
  expect(absolutePathReference(image)).toBe(expected);
});
