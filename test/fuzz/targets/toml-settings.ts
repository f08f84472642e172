// Fuzz target: the TOML files setup-root-conf.toml, kargs.d and the rules for /etc.

import { parseSettings } from "../../../initrd/settings.ts";
import { formatCmdline, parseCmdline } from "../../../shared/format/kargs/cmdline.ts";
import { mergeKargsFiles, parseKargsFile } from "../../../shared/format/kargs/kargs-d.ts";
import {
  formatEtcPolicyRecord,
  makeRuleFinder,
  parseEtcPolicy,
  parseEtcPolicyRecord,
} from "../../../updater/deploy/etc-policy.ts";
import { attempt, checkEqual, type FuzzTarget } from "../target.ts";

const SETTINGS = '[root]\ntransient = true\n[etc]\nmount = "overlay"\n[var]\ntransient = false\n';
const KARGS =
  '# c\nkargs = ["quiet", "a=b c=\\"d e\\""]\nmatch-architectures = ["x86_64", \'y\']\n';
const RULES =
  '[[rule]]\npath = "/etc/a*"\naction = "keep"\n[[rule]]\npath = ["/etc/**/b?"]\naction = "image"\n';

export const target: FuzzTarget = {
  focus: /^initrd\/settings\.ts|^shared\/format\/kargs\/kargs-d\.ts|deploy\/etc-policy\.ts/,
  maxBytes: 2048,
  words: [
    ..."[root]\n|[[root]]\n|root.transient|=|\"|'|\"\"\"|'''|[|]|{|}|#|\n|\r\n|true|1979-05-27T07:32:00Z".split(
      "|",
    ),
    ...'0x1F|1_000|inf|nan|-0|1e400|\\u0000|\\U00110000|__proto__|"__proto__"|constructor|kargs|'.split(
      "|",
    ),
    ...'[[rule]]|action = "fail"|/etc/|**|\\\\'.split("|"),
    ...'mount = "root"|07:32:00|\ufeff|\0|\ud800|9223372036854775808'.split("|"),
  ],
  seeds: () => [SETTINGS, KARGS, RULES].map((text) => Buffer.from(text)),
  check(input) {
    const text = Buffer.from(input).toString("utf8");
    const settings = attempt(() => parseSettings(text, "settings"));
    const kargs = attempt(() => parseKargsFile(text, "file", "x86_64"));
    if (!("error" in kargs)) {
      const line = formatCmdline(kargs.value);
      checkEqual(formatCmdline(parseCmdline(line)), line, "Arguments written and read");
      const merged = mergeKargsFiles(new Map([["a.toml", text]]), "x86_64");
      checkEqual(formatCmdline(merged), line, "Arguments of one file, merged");
    }
    const rules = attempt(() => parseEtcPolicy(text, "rules"));
    if (!("error" in rules)) {
      const record = parseEtcPolicyRecord(formatEtcPolicyRecord(rules.value), "record");
      checkEqual(JSON.stringify(record), JSON.stringify(rules.value), "Rules and their record");
      const found = makeRuleFinder(rules.value)("a/b");
      checkEqual(found === null || rules.value.includes(found), true, "A rule that is one of them");
    }
    for (const result of [settings, kargs, rules]) {
      if ("error" in result && result.error.name !== "FormatError") throw result.error;
    }
    return [settings, kargs, rules].some((result) => !("error" in result));
  },
};
