// Fuzz target: the kernel command line. Text is kept byte for byte; every edit leaves the rest alone.

import { parseBootParameters } from "../../../initrd/boot-parameters.ts";
import {
  addParameter,
  formatCmdline,
  makeParameter,
  parameterValues,
  parseArguments,
  parseCmdline,
  removeParameter,
  replaceParameter,
  subtractParameters,
} from "../../../shared/format/kargs/cmdline.ts";
import { attempt, checkEqual, type FuzzTarget } from "../target.ts";

export const target: FuzzTarget = {
  focus: /^shared\/format\/kargs\/(cmdline|composefs)\.ts|^initrd\/boot-parameters\.ts/,
  maxBytes: 2048,
  words: [
    ...'"| |=|-|_|\t|\n|root=|composefs=|composefs=?|composefs.digest=v1-sha512-12:|\0|\u00a0'.split(
      "|",
    ),
    ..."systemd.volatile=|rd.break|rd.shell=|init=/|ostree=".split("|"),
    "ab".repeat(32),
    "0".repeat(128),
  ],
  seeds: () => [
    Buffer.from(`root=UUID=ab rw composefs=${"ab".repeat(64)} "a b=c d" e="f g" quiet`),
    Buffer.from(`composefs.digest=?v2-sha256-12:${"0A".repeat(32)} rd.break init=/sbin/init`),
  ],
  check(input) {
    const text = Buffer.from(input).toString("utf8");
    const cmdline = parseCmdline(text);
    const formatted = formatCmdline(cmdline);
    checkEqual(formatCmdline(parseCmdline(formatted)), formatted, "Command line written and read");
    checkEdits(text, formatted);
    const args = attempt(() => parseArguments(text));
    if (!("error" in args)) {
      const joined = `${formatCmdline(args.value)} tail`;
      checkEqual(parseCmdline(joined).at(-1)?.text, "tail", "What comes after the arguments");
    }
    parseBootParameters(text);
    return true;
  },
};

function checkEdits(text: string, formatted: string): void {
  const cmdline = parseCmdline(text);
  const parameter = attempt(() => makeParameter(cmdline[0]?.key ?? "", cmdline[0]?.value ?? null));
  if ("error" in parameter) return;
  const { value } = parameter;
  const reread = parseCmdline(value.text);
  checkEqual(JSON.stringify(reread), JSON.stringify([value]), "Parameter written and read");
  checkEqual(formatCmdline(addParameter(cmdline, value)), formatted, "Adding what is there");
  const removed = removeParameter(cmdline, value);
  checkEqual(parameterValues(removed, value.key).includes(value.value), false, "Value still there");
  const replaced = replaceParameter(cmdline, { ...value, value: "1", text: `${value.key}=1` });
  checkEqual(JSON.stringify(parameterValues(replaced, value.key)), '["1"]', "Value replaced");
  checkEqual(subtractParameters(cmdline, cmdline).length, 0, "Command line less itself");
  const added = subtractParameters([...cmdline, value], cmdline);
  checkEqual(JSON.stringify(added), JSON.stringify([{ ...value, text: added[0]?.text }]), "Added");
}
