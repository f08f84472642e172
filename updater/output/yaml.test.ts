import { spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { formatYaml } from "./yaml.ts";

/** Text that some reader takes for a number, a time, a truth value or a syntax error when bare. */
const TRICKY = [
  ...["yes", "No", "on", "OFF", "y", "n", "true", "False", "null", "NULL", "~", "", "=", "<<"],
  ...["9.20", "24.10", "1e3", "0o17", "017", "0x1f", "0b11", "1_000", "+1", ".5", "1.", "-.inf"],
  ...[".NaN", "12:30:45", "190:20:30.15", "2001-1-1", "2023-10-14T19:22:15Z", "1.2.3", "-"],
  ...[" lead", "trail ", "a: b", "a:", "a #b", "# x", "- x", "@x", "`x", "!x", "&x", "*x", "%x"],
  ...["[x", "{x", "|", ">", "?", "? x", "'x'", '"x"', "a\nb", "tab\there", "\u001b[0m", "---"],
  ...["é", "日本", "nel\u0085x", "\u2028", "\ufeff", "\u007f", "\ud83d\ude00", "back\\slash"],
];
const ORDINARY = [
  ...["sha256:16dc2b", "quay.io/example/os:latest", "registry", "org.containers.bootc/v1"],
  ...["Debian GNU/Linux trixie", "/var/mnt/usb/os.oci", "amd64", "a@sha256:0"],
];

describe("formatYaml", () => {
  test("block style, properties in order, sequences not indented, no anchors", () => {
    const shared = { image: "x", transport: "oci" };
    const value = { spec: { image: shared, b: null }, a: [shared, { n: 1 }], e: [], o: {} };
    expect(formatYaml(value)).toBe(
      [
        ...["spec:", "  image:", "    image: x", "    transport: oci", "  b: null"],
        ...["a:", "- image: x", "  transport: oci", '- "n": 1', "e: []", "o: {}", ""],
      ].join("\n"),
    );
  });

  test.each(ORDINARY)("%s stays bare", (text) => {
    expect(formatYaml({ v: text })).toBe(`v: ${text}\n`);
  });

  test.each(["1.1", "1.2"] as const)("YAML %s readers get every text back", (version) => {
    for (const text of [...TRICKY, ...ORDINARY]) {
      const yaml = formatYaml({ [text]: text });
      expect(parse(yaml, { version }), yaml).toEqual({ [text]: text });
    }
  });

  const python = spawnSync("python3", ["-c", "import yaml"]).status === 0;
  test.skipIf(!python)("Python's reader gets every text back", () => {
    const values = [...TRICKY, ...ORDINARY];
    const script = "import sys, yaml, json; print(json.dumps(yaml.safe_load(sys.stdin.read())))";
    const { stdout } = spawnSync("python3", ["-c", script], { input: formatYaml({ values }) });
    expect(JSON.parse(stdout.toString())).toEqual({ values });
  });

  test("long lines are not folded", () => {
    const text = `x${" word".repeat(100)}`;
    expect(formatYaml({ a: text, b: `"${text}` })).toBe(`a: ${text}\nb: "\\"${text}"\n`);
  });
});
