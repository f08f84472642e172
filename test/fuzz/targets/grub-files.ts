// Fuzz target: what GRUB and this program share: grubenv, user.cfg, the order of names, and entries as a
// script. What was read is written the same; names put in order are in order for every GRUB.

import { parseEntry } from "../../../shared/format/bls/entry.ts";
import { changeEnvironment, parseEnvironment } from "../../../shared/format/grub/environment.ts";
import { formatMenuScript } from "../../../shared/format/grub/menu-script.ts";
import {
  compareMenuNames,
  isShownBefore,
  orderNames,
} from "../../../shared/format/grub/name-order.ts";
import { arrangeUserConfig, parseUserConfig } from "../../../shared/format/grub/user-config.ts";
import { attempt, checkEqual, checkSameBytes, type FuzzTarget, PropertyError } from "../target.ts";

const USER_CONFIG = `
if [ -f \${config_directory}/efiuuid.cfg ]; then
        source \${config_directory}/efiuuid.cfg
fi
menuentry "Fedora Linux 44: (aa)" {
insmod chain # a comment }
search --no-floppy --set=root --fs-uuid "\${EFI_PART_UUID}"
chainloader /EFI/Linux/bootc/bootc_composefs-aa.efi
}
menuentry 'b{' --id x { chainloader "/b.efi" }
`;
const ENVIRONMENT = "# GRUB Environment Block\n# no\nboot_counter=2\nsaved_entry=a\\\\b\\\nc\n";

export const target: FuzzTarget = {
  focus: /^shared\/format\/grub\//,
  maxBytes: 4096,
  errors: ["FormatError"],
  words: [
    "menuentry ",
    "chainloader /x.efi\n",
    "bootc_fedora-44-1",
    "bootc-98.44-0",
    "~",
    "\\\n",
    "#",
  ],
  seeds: () => [
    Buffer.from(USER_CONFIG),
    Buffer.from(ENVIRONMENT.padEnd(1024, "#")),
    Buffer.from("bootc_fedora-44-1\nbootc_debian-13.2~rc1-0\nbootc-98.44-0\nx-1-2\n"),
    Buffer.from("linux /a'b\ninitrd /i\noptions a=\"b c\" quiet $x\ntitle It's\n"),
  ],
  check(input) {
    const text = Buffer.from(input).toString("utf8");
    checkNames(text.split("\n", 8));
    const environment = attempt(() => parseEnvironment(input));
    if ("value" in environment) checkEnvironment(input, environment.value);
    const entry = attempt(() => parseEntry(text, "entry"));
    if ("value" in entry) checkScript(formatMenuScript([{ id: "id", entry: entry.value }]));
    const parts = parseUserConfig(text);
    checkEqual(parts.map((part) => part.text).join(""), text, "Parts of user.cfg");
    const paths = parts.flatMap((part) =>
      part.kind === "entry" && part.chainloader !== null ? [part.chainloader] : [],
    );
    const again = parseUserConfig(
      arrangeUserConfig(parts, [...new Set(paths)].reverse(), new Set()),
    );
    const count = (list: typeof parts) => list.filter(({ kind }) => kind === "entry").length;
    checkEqual(count(again) >= count(parts), true, "Entries of the file in another order");
    return true;
  },
};

function checkEnvironment(input: Uint8Array, variables: ReadonlyMap<string, string>): void {
  const written = attempt(() => changeEnvironment(input, { boot_counter: "3" }));
  if ("error" in written) return;
  checkEqual(written.value.length, input.length, "Size of the changed block");
  const expected = new Map([...variables, ["boot_counter", "3"]]);
  const found = parseEnvironment(written.value);
  checkEqual(JSON.stringify([...found].sort()), JSON.stringify([...expected].sort()), "Variables");
  const same = changeEnvironment(written.value, { boot_counter: "3" });
  checkSameBytes(same, written.value, "The block changed again");
}

function checkNames(names: readonly string[]): void {
  const ordered = orderNames(names);
  for (const [i, name] of ordered.entries()) {
    for (const other of ordered.slice(i + 1)) {
      if (isShownBefore(name, other) && isShownBefore(other, name)) {
        throw new PropertyError(`"${name}" and "${other}" are both before each other`);
      }
      checkEqual(
        Math.sign(compareMenuNames(name, other)) + Math.sign(compareMenuNames(other, name)),
        0,
        "Order",
      );
    }
  }
}

/** Outside of quotes nothing but the words of the script itself may be left. */
function checkScript(script: string): void {
  const bare = script
    .replaceAll(/'[^']*'|\\'/g, "")
    .replaceAll(/\s+/g, " ")
    .trim();
  if (bare !== "" && !/^menuentry --id \{ linux ?(?: initrd ?)?\}$/.test(bare)) {
    throw new PropertyError(`The script has words outside of quotes: ${JSON.stringify(bare)}`);
  }
}
