// registries.d: where signatures of images lie that are not in the image (containers-registries.d(5)).
//
// All files of one directory count together; a section that is there twice is an error. For each
// setting the most specific section that has it decides. Unknown keys are ignored, as there.

import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { parse } from "yaml";
import * as z from "zod";
import { FormatError } from "../../../shared/error.ts";
import {
  type ConfigPlace,
  homeDirectory,
  listConfigDirectory,
  placePath,
} from "../../registry/config-place.ts";

export interface SignatureStores {
  /** URL of the look-aside store, http(s) or file, without the image's part. */
  readonly lookaside: string;
  /** Whether to look for signatures in the registry itself. */
  readonly attachments: boolean;
}

const DIRECTORIES = ["/etc/containers/registries.d", "/usr/share/containers/registries.d"];
const SYSTEM_STORE = "/var/lib/containers/sigstore";
const USER_STORE = ".local/share/containers/sigstore";
const MAX_FILE_BYTES = 1 << 20;

const sectionSchema = z.looseObject({
  lookaside: z.string().nullish(),
  sigstore: z.string().nullish(),
  "use-sigstore-attachments": z.boolean().nullish(),
});
const fileSchema = z
  .looseObject({
    "default-docker": sectionSchema.nullish(),
    docker: z.record(z.string(), sectionSchema.nullish()).nullish(),
  })
  .nullable();
type Section = z.infer<typeof sectionSchema>;

export interface RegistriesD {
  readonly general: Section | null;
  readonly sections: ReadonlyMap<string, Section>;
}

/** FormatError naming the file. Without a directory nothing is configured. */
export function readRegistriesD(place: ConfigPlace): RegistriesD {
  const home = homeDirectory(place);
  const own = home === null ? [] : [join(home, ".config/containers/registries.d")];
  for (const directory of [...own, ...DIRECTORIES.map((path) => placePath(place, path))]) {
    const names = listConfigDirectory(directory);
    if (names === null) continue;
    const files = names.filter((name) => name.endsWith(".yaml"));
    return mergeFiles(files.map((name) => join(directory, name)));
  }
  return { general: null, sections: new Map() };
}

/** `scopes` name the image, from special to general (scopes.ts). */
export function chooseStores(config: RegistriesD, scopes: readonly string[]): SignatureStores {
  const sections: Section[] = scopes.flatMap((scope) => {
    const section = config.sections.get(scope);
    return section === undefined ? [] : [section];
  });
  if (config.general !== null) sections.push(config.general);
  const isUser = process.getuid?.() !== 0;
  const fallback = `file://${isUser ? join(homedir(), USER_STORE) : SYSTEM_STORE}`;
  const lookaside = sections
    .map((section) => section.lookaside || section.sigstore)
    .find((url) => url !== undefined && url !== null && url !== "");
  const attachments = sections
    .map((section) => section["use-sigstore-attachments"])
    .find((value) => value !== undefined && value !== null);
  // A policy that asks for such signatures says enough, so there is no need to switch them on as well.
  return { lookaside: lookaside ?? fallback, attachments: attachments ?? true };
}

function mergeFiles(paths: readonly string[]): RegistriesD {
  let general: { readonly section: Section; readonly path: string } | null = null;
  const sections = new Map<string, Section>();
  const origins = new Map<string, string>();
  const refuseTwice = (what: string, one: string, other: string): never => {
    throw new FormatError("bad-value", `${what} is in both "${one}" and "${other}"`);
  };
  for (const path of paths) {
    const file = readSectionFile(path);
    const section = file?.["default-docker"];
    if (section) {
      if (general !== null) refuseTwice('Section "default-docker"', general.path, path);
      general = { section, path };
    }
    for (const [scope, value] of Object.entries(file?.docker ?? {})) {
      const earlier = origins.get(scope);
      if (earlier !== undefined) refuseTwice(`Section "${scope}"`, earlier, path);
      origins.set(scope, path);
      sections.set(scope, value ?? {});
    }
  }
  return { general: general?.section ?? null, sections };
}

function readSectionFile(path: string) {
  const bytes = readFileSync(path);
  const what = `File "${path}"`;
  if (bytes.length > MAX_FILE_BYTES) throw new FormatError("limit", `${what} is too large`);
  let value: unknown;
  try {
    value = parse(bytes.toString("utf8"));
  } catch (cause) {
    throw new FormatError("bad-value", `${what} is not YAML`, { path }, { cause });
  }
  const result = fileSchema.safeParse(value ?? null);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new FormatError(
    "bad-value",
    `${what} is malformed at "${issue?.path.join(".")}": ${issue?.message}`,
  );
}
