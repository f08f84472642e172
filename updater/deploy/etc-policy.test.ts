import { describe, expect, test } from "vitest";
import { toByteString } from "../../shared/format/tree/node.ts";
import {
  formatEtcPolicyRecord,
  makeRuleFinder,
  parseEtcPolicy,
  parseEtcPolicyRecord,
} from "./etc-policy.ts";

const rule = (path: string, action = "image") =>
  `[[rule]]\npath = "${path}"\naction = "${action}"\n`;

describe("parseEtcPolicy", () => {
  test("rules in their order, with the line each begins at", () => {
    const text = `# comment\n${rule("/etc/a")}\n${rule("/etc/b/**", "fail")}[[rule]]
path = ["/etc/c", "/etc/d"]
action = "keep"`;
    expect(parseEtcPolicy(text, "p.toml")).toEqual([
      { path: "/etc/a", action: "image", source: "p.toml:2" },
      { path: "/etc/b/**", action: "fail", source: "p.toml:6" },
      { path: "/etc/c", action: "keep", source: "p.toml:9" },
      { path: "/etc/d", action: "keep", source: "p.toml:9" },
    ]);
  });

  test("inline rules are rules, without a line", () => {
    expect(parseEtcPolicy('rule = [{ path = "/etc/a", action = "keep" }]', "p")).toEqual([
      { path: "/etc/a", action: "keep", source: "p" },
    ]);
  });

  test.each(["", "# nothing\n", "rule = []"])("no rules in %j", (text) => {
    expect(parseEtcPolicy(text, "p")).toEqual([]);
  });

  test.each<[string, string]>([
    ["[[rule]\n", 'in "p:1" is wrong: it is not TOML'],
    ['\npath = "/etc/a"\n', 'in "p:2" is wrong: unknown key "path"; known are "[[rule]]"'],
    ["[[rules]]\n", 'in "p:1" is wrong: unknown key "rules"'],
    [`${rule("/etc/a")}mode = 1\n`, 'in "p:4" is wrong: unknown key "mode"; known are "path"'],
    [`${rule("/etc/a")}\n${rule("/etc/b", "take")}`, 'in "p:7" is wrong: "action": Invalid'],
    ['[[rule]]\npath = "/etc/a"\n', 'in "p:1" is wrong: "action"'],
    ['[[rule]]\naction = "keep"\n', 'in "p:1" is wrong: "path"'],
    ["[[rule]]\npath = 1\naction = 'keep'\n", 'in "p:2" is wrong: "path": expected text or a list'],
    ["[[rule]]\npath = []\naction = 'keep'\n", 'in "p:2" is wrong: "path"'],
    [rule("/usr/x"), 'in "p:2" is wrong: "path": "/usr/x" is not below "/etc"'],
    [rule("etc/x"), "is not below"],
    [rule("/etc/"), 'ends in "/"'],
    [rule("/etc/a/../b"), '"." or ".."'],
    [rule("/etc//b"), "an empty part"],
    [rule("/etc/a**"), '"**" stands for whole names'],
    ["rule = 3", 'in "p:1" is wrong: "rule"'],
  ])("%j", (text, message) => {
    expect(() => parseEtcPolicy(text, "p")).toThrow(message);
  });
});

describe("makeRuleFinder", () => {
  test.each<[pattern: string, matching: readonly string[], others: readonly string[]]>([
    ["/etc", ["a", "a/b"], []],
    ["/etc/a", ["a", "a/b/c"], ["ab", "b/a", "a.conf"]],
    ["/etc/a/**", ["a/b", "a/b/c"], ["a", "ab/c"]],
    ["/etc/*.conf", ["x.conf", ".conf", "x.conf/in"], ["d/x.conf", "x.conf2", "xconf"]],
    ["/etc/**/*.conf", ["x.conf", "d/x.conf", "d/e/x.conf"], ["d/x.cnf"]],
    ["/etc/**", ["a", "a/b"], []],
    ["/etc/a?", ["ab", "a\xe9", toByteString("aé")], ["a", "abc", "a/b"]],
    ["/etc/a\\*", ["a*", "a*/b"], ["ab", "a"]],
    ["/etc/a+(b)[c]{d}|^$.", ["a+(b)[c]{d}|^$."], ["a", "aab"]],
    ["/etc/é", [toByteString("é")], ["\xe9"]],
    ["/etc/a\nb", ["a\nb"], ["a"]],
    ["/etc/*", ["a\nb", "a/b"], []],
    ["/etc/a/**/b", ["a/b", "a/x/b", "a/x/y/b", "a/b/c"], ["a", "b", "a/x"]],
    ["/etc/**/a/**/b", ["a/b", "x/a/y/b", "a/a/b/b"], ["b/a"]],
    ["/etc/a*b*c", ["abc", "axbxc", "abbcc"], ["ab", "acb", "abcd"]],
    ["/etc/\\\\", ["\\"], ["a"]],
  ])("%j", (path, matching, others) => {
    const find = makeRuleFinder([{ path, action: "keep", source: "s" }]);
    expect(matching.filter((each) => find(each) === null)).toEqual([]);
    expect(others.filter((each) => find(each) !== null)).toEqual([]);
  });

  test("no pattern takes long", () => {
    const path = `/etc/${"*a".repeat(40)}/${"**/x*/".repeat(20)}end`;
    const find = makeRuleFinder([{ path, action: "keep", source: "s" }]);
    expect(find(`${"a".repeat(255)}/${"x/".repeat(200)}x`)).toBe(null);
  });

  test("the last rule counts", () => {
    const find = makeRuleFinder([
      { path: "/etc", action: "image", source: "1" },
      { path: "/etc/a", action: "keep", source: "2" },
      { path: "/etc/a/b", action: "fail", source: "3" },
    ]);
    expect(["x", "a", "a/x", "a/b"].map((path) => find(path)?.source)).toEqual([
      "1",
      "2",
      "2",
      "3",
    ]);
  });
});

test("the record of rules reads back; what is none is an error", () => {
  const rules = parseEtcPolicy(rule("/etc/a") + rule("/etc/b*", "fail"), "p");
  expect(parseEtcPolicyRecord(formatEtcPolicyRecord(rules), "r")).toEqual(rules);
  for (const text of ["", "{}", '{"rules":[{"path":"/usr","action":"keep","source":"x"}]}']) {
    expect(() => parseEtcPolicyRecord(text, "r")).toThrow('"r"');
  }
});
