// Origin files, `state/deploy/<id>/<id>.origin`: where a deployment came from (bootc.md 4.2).

import { FormatError } from "../../shared/error.ts";
import { formatIni, type Ini, parseIni } from "../../shared/format/keyfile/ini.ts";

export interface Origin {
  /** `ostree-unverified-image:<transport>:<image>` */
  readonly imageReference: string | null;
  readonly bootType: "bls" | "uki";
  readonly bootDigest: string | null;
  readonly manifestDigest: string | null;
}

export function parseOrigin(text: string, source: string): Origin {
  const ini = parseIni(text, source);
  // A line break of another system, or worse: nothing that could be written again, or shown.
  const value = (group: string, key: string) =>
    ini
      .get(group)
      ?.get(key)
      ?.replaceAll(/[\u0000-\u001f\u007f]/g, "") ?? null;
  const bootType = value("boot", "boot_type") ?? "bls";
  if (bootType !== "bls" && bootType !== "uki") {
    throw new FormatError("bad-value", `Origin "${source}": boot_type is "${bootType}"`, {
      format: "origin",
      field: "boot_type",
    });
  }
  return {
    imageReference: value("origin", "container-image-reference"),
    bootType,
    bootDigest: value("boot", "digest"),
    manifestDigest: checkDigest(value("image", "manifest_digest")),
  };
}

/** It becomes part of names in the repository: what is no digest is none. */
function checkDigest(text: string | null): string | null {
  return text !== null && /^[a-z0-9]+:[0-9a-f]+$/.test(text) ? text : null;
}

export function formatOrigin(origin: Origin): string {
  const ini: [string, [string, string | null][]][] = [
    ["origin", [["container-image-reference", origin.imageReference]]],
    [
      "boot",
      [
        ["boot_type", origin.bootType],
        ["digest", origin.bootDigest],
      ],
    ],
    ["image", [["manifest_digest", origin.manifestDigest]]],
  ];
  const groups: Ini = new Map(
    ini.map(([group, pairs]) => [
      group,
      new Map(pairs.filter((pair): pair is [string, string] => pair[1] !== null)),
    ]),
  );
  return formatIni(new Map([...groups].filter(([, keys]) => keys.size > 0)));
}
