// Fuzz target: image references in all spellings, origin files, mount options. What was read can be
// written and read again.

import { parseMountOptions } from "../../../updater/composefs/mount-options.ts";
import { formatOrigin, parseOrigin } from "../../../updater/deploy/origin.ts";
import {
  formatOriginReference,
  formatTransportReference,
  parseOriginReference,
  parseTransportReference,
} from "../../../updater/image/reference.ts";
import { attempt, checkEqual, type FuzzTarget } from "../target.ts";

export const target: FuzzTarget = {
  focus: /^updater\/(image\/reference|composefs\/mount-options|deploy\/origin)\.ts/,
  maxBytes: 1024,
  errors: ["FormatError", "UsageError"],
  words: [
    ..."docker://|registry:|oci:|oci-archive:|containers-storage:|dir:|ostree-unverified-image:|:".split(
      "|",
    ),
    ..."ostree-unverified-registry:|ostree-image-signed:|ostree-remote-image:r:|ostree-remote-registry:r:".split(
      "|",
    ),
    ..."[origin]\ncontainer-image-reference=|\n[boot]\nboot_type=uki\n|digest=|basedir=|,|\\|verity|digest=".split(
      "|",
    ),
    " ",
    "\u00a0",
  ],
  seeds: () =>
    [
      "ostree-unverified-image:docker://quay.io/x/y:tag",
      "ostree-remote-image:fedora:oci:/path/to:tag",
      "ostree-remote-registry:r:quay.io/x@sha256:ab",
      "docker://localhost/bootc",
      "[origin]\ncontainer-image-reference=a\n[boot]\nboot_type=uki\ndigest=b\n[image]\nmanifest_digest=c\n",
      "basedir=/a:/b,upperdir=/u\\,x,workdir=/w,ro,nosuid,tryverity",
    ].map((text) => Buffer.from(text)),
  check(input) {
    const text = Buffer.from(input).toString("utf8");
    const results = [
      attempt(() => checkTransport(text)),
      attempt(() => checkOrigin(text)),
      attempt(() => parseMountOptions(text)),
      attempt(() => checkOriginFile(text)),
    ];
    for (const result of results) {
      if ("error" in result && !["FormatError", "UsageError"].includes(result.error.name)) {
        throw result.error;
      }
    }
    return results.some((result) => !("error" in result));
  },
};

function checkTransport(text: string): void {
  const reference = parseTransportReference(text);
  const again = parseTransportReference(formatTransportReference(reference));
  checkEqual(JSON.stringify(again), JSON.stringify(reference), "Reference written and read");
}

function checkOrigin(text: string): void {
  const reference = parseOriginReference(text);
  const again = parseOriginReference(formatOriginReference(reference));
  checkEqual(JSON.stringify(again), JSON.stringify(reference), "Origin reference written and read");
}

function checkOriginFile(text: string): void {
  const origin = parseOrigin(text, "origin");
  const again = parseOrigin(formatOrigin(origin), "again");
  checkEqual(JSON.stringify(again), JSON.stringify(origin), "Origin file written and read");
}
