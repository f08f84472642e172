// The container image behind an ostree commit: bootc and rpm-ostree write its manifest and config into the commit's
// metadata, and what the last check for updates found into the detached metadata (ostree.md 5.2, 5.5).

import { FormatError } from "../../shared/error.ts";
import { type Dictionary, lookupString } from "../../shared/format/gvariant/dictionary.ts";
import { type ImageConfig, parseImageConfig } from "../../shared/format/oci/config.ts";
import { hostArchitecture } from "../../shared/format/oci/platform.ts";
import { readCommit, readDetached } from "../../shared/ostree/objects.ts";
import type { OstreeRepository } from "../../shared/ostree/repository.ts";

export interface CommitImage {
  readonly manifestDigest: string;
  readonly version: string | null;
  /** RFC 3339 */
  readonly timestamp: string | null;
  /** GOARCH name. */
  readonly architecture: string;
}

export interface CommitImages {
  /** Null for a commit that was not made from an image. */
  readonly current: CommitImage | null;
  /** The update that was found last, null when it is what is deployed. */
  readonly update: CommitImage | null;
}

/** FormatError when the commit or a document in it is malformed, StateError when it is missing. */
export function readCommitImages(repo: OstreeRepository, commit: string): CommitImages {
  const current = readImage(readCommit(repo, commit).metadata, {
    digest: "ostree.manifest-digest",
    config: "ostree.container.image-config",
  });
  const detached = readDetached(repo, commit);
  const update =
    detached === null
      ? null
      : readImage(detached, {
          digest: "ostree-ext.cached.manifest-digest",
          config: "ostree-ext.cached.config",
        });
  const isNews = update !== null && update.manifestDigest !== current?.manifestDigest;
  return { current, update: isNews ? update : null };
}

function readImage(
  metadata: Dictionary,
  keys: { readonly digest: string; readonly config: string },
): CommitImage | null {
  const manifestDigest = lookupString(metadata, keys.digest);
  if (manifestDigest === null) return null;
  if (!/^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$/.test(manifestDigest)) {
    throw new FormatError("bad-value", `"${keys.digest}" is "${manifestDigest}", no digest`, {
      format: "commit",
      field: keys.digest,
    });
  }
  const text = lookupString(metadata, keys.config);
  // "null" is what ostree-rs-ext wrote when there was no config.
  const config =
    text === null || text === "null"
      ? null
      : parseImageConfig(Buffer.from(text), null, `"${keys.config}" of the commit`);
  return { manifestDigest, ...describeConfig(config) };
}

/** On ostree systems bootc goes by the labels, not by the manifest's annotations (bootc.md 2.2). */
function describeConfig(config: ImageConfig | null): Omit<CommitImage, "manifestDigest"> {
  const labels = config?.config?.Labels ?? {};
  return {
    version: labels["org.opencontainers.image.version"] ?? labels["version"] ?? null,
    timestamp: labels["org.opencontainers.image.created"] ?? config?.created ?? null,
    architecture: config?.architecture || hostArchitecture(),
  };
}
