import { describe, expect, test } from "vitest";
import { parseChallenges } from "./challenge.ts";

const parse = (...fields: string[]) =>
  parseChallenges(fields).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

describe("challenges", () => {
  test.each<[string, readonly string[], unknown]>([
    ["none", [], []],
    ["empty", ["", " , ,"], []],
    ["a bare scheme", ["Basic"], [["basic", {}]]],
    ["a token value", ["Basic realm=x"], [["basic", { realm: "x" }]]],
    ["a quoted value", ['Basic realm="x y"'], [["basic", { realm: "x y" }]]],
    ["an empty value", ['Basic realm=""'], [["basic", { realm: "" }]]],
    ["escapes", [String.raw`Basic realm="a \"b\" \\ c"`], [["basic", { realm: 'a "b" \\ c' }]]],
    [
      "commas in quotes",
      ['Bearer realm="a,b",scope="x:y:pull,push"'],
      [["bearer", { realm: "a,b", scope: "x:y:pull,push" }]],
    ],
    [
      "space around",
      ['Bearer  realm = "a" ,  service="b"'],
      [["bearer", { realm: "a", service: "b" }]],
    ],
    ["capitals", ['BEARER Realm="A"'], [["bearer", { realm: "A" }]]],
    [
      "two in one field",
      ['Basic realm="a", Bearer realm="b", service="c"'],
      [
        ["basic", { realm: "a" }],
        ["bearer", { realm: "b", service: "c" }],
      ],
    ],
    [
      "two fields",
      ['Basic realm="a"', 'Bearer realm="b"'],
      [
        ["basic", { realm: "a" }],
        ["bearer", { realm: "b" }],
      ],
    ],
    [
      "one word",
      ["Negotiate YWJj==, Basic realm=x"],
      [
        ["negotiate", {}],
        ["basic", { realm: "x" }],
      ],
    ],
    [
      "bare schemes",
      ["Negotiate, NTLM, Basic realm=x"],
      [
        ["negotiate", {}],
        ["ntlm", {}],
        ["basic", { realm: "x" }],
      ],
    ],
    ["the first of a name", ['Basic realm="a", realm="b"'], [["basic", { realm: "a" }]]],
    ["a parameter before any scheme", ['realm="a", Basic realm="b"'], [["basic", { realm: "b" }]]],
    [
      "an unfinished quote",
      ['Bearer realm="a, service="b"'],
      [["bearer", { realm: "a, service=" }]],
    ],
    [
      "an open quote",
      ['Basic realm="a', "Bearer realm=b"],
      [
        ["basic", {}],
        ["bearer", { realm: "b" }],
      ],
    ],
    [
      "rubbish between",
      ['Basic realm="a", (x)=;, Bearer realm="b"'],
      [
        ["basic", { realm: "a" }],
        ["bearer", { realm: "b" }],
      ],
    ],
    [
      "a scheme inside quotes",
      ['Basic realm="x, Bearer realm=evil"'],
      [["basic", { realm: "x, Bearer realm=evil" }]],
    ],
    [
      "names of objects",
      ["Basic __proto__=x"],
      [["basic", Object.fromEntries([["__proto__", "x"]])]],
    ],
  ])("%s", (_, fields, expected) => {
    expect(parse(...fields)).toEqual(expected);
  });

  test("are bounded in number and length", () => {
    expect(parse("Basic realm=x, ".repeat(1000)).length).toBe(16);
    expect(parse(`Basic realm="${"a".repeat(1 << 20)}"`)).toEqual([["basic", {}]]);
  });

  test.each([
    ['"'.repeat(16_000)],
    ["a ".repeat(8000)],
    ["\\".repeat(16_000)],
    ['a="\\'.repeat(4000)],
    [" ".repeat(16_000)],
    ["a=".repeat(8000)],
  ])("are refused well within the limit of a test (%#)", (field) => {
    parse(field);
  });
});
