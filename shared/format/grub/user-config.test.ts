import { expect, test } from "vitest";
import { FormatError } from "../../error.ts";
import { arrangeUserConfig, parseUserConfig } from "./user-config.ts";

const path = (id: string) => `/EFI/Linux/bootc/bootc_composefs-${id}.efi`;
const entry = (label: string, id: string) => `menuentry "${label}: (${id})" {
insmod fat
insmod chain
search --no-floppy --set=root --fs-uuid "\${EFI_PART_UUID}"
chainloader ${path(id)}
}
`;
const preamble = `
if [ -f \${config_directory}/efiuuid.cfg ]; then
        source \${config_directory}/efiuuid.cfg
fi
`;
const written = preamble + entry("Fedora Linux 44", "aa") + entry("Fedora Linux 43", "bb");
const texts = (text: string) => parseUserConfig(text).map((part) => part.text);

test("what bootc writes", () => {
  const parts = parseUserConfig(written);
  expect(
    parts.map((part) => (part.kind === "entry" ? [part.title, part.chainloader] : part.kind)),
  ).toEqual(["text", ["Fedora Linux 44: (aa)", path("aa")], ["Fedora Linux 43: (bb)", path("bb")]]);
  expect(texts(written).join("")).toBe(written);
});

test.each([
  ["escapes in a title", 'menuentry "a \\"b\\" {" {\nchainloader /x\n}\n', 'a "b" {', "/x"],
  [
    "single quotes, options, comments",
    "menuentry 'a}' --id x {\n # } not the end\n chainloader \"/y\"\n}",
    "a}",
    "/y",
  ],
  [
    "braces inside",
    `menuentry a {\nif true; then { chainloader /z\n}; fi\necho "\${x}"\n}\n`,
    "a",
    "/z",
  ],
  ["another kind of entry", "menuentry Linux {\nlinux /vmlinuz\n}\n", "Linux", null],
])("%s", (_, text, title, chainloader) => {
  expect(parseUserConfig(text)).toEqual([{ kind: "entry", title, chainloader, text }]);
});

test.each([
  ["no end", 'menuentry "a" {\nchainloader /x\n'],
  ["too many ends", "menuentry a }\n"],
  ["a quote that does not end (found by fuzzing)", 'menuentry {chainloader x"}'],
  ["a huge file", "#".repeat(300_000)],
])("refuses %s", (_, text) => {
  expect(() => parseUserConfig(text)).toThrow(FormatError);
});

test("another order; what starts something else stays behind, and so does the script", () => {
  const other = "menuentry Windows {\nchainloader /EFI/Microsoft/w.efi\n}\n";
  const parts = parseUserConfig(preamble + entry("4", "aa") + other + entry("3", "bb"));
  expect(arrangeUserConfig(parts, [path("bb"), path("aa")], new Set())).toBe(
    preamble + entry("3", "bb") + entry("4", "aa") + other,
  );
  expect(arrangeUserConfig(parts, [path("bb")], new Set([path("aa")]))).toBe(
    preamble + entry("3", "bb") + other,
  );
  expect(() => arrangeUserConfig(parts, [path("cc")], new Set())).toThrow("no entry");
});

test("script without an end of its last line (found by fuzzing)", () => {
  expect(arrangeUserConfig(parseUserConfig("menuentry {}x"), [], new Set())).toBe(
    "x\nmenuentry {}\n",
  );
});
