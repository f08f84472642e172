// Names of images in registries, as people write them and as Docker's distribution/reference reads them:
//
//   [host[:port]/]path[/path…][:tag][@digest]
//
// Host and repository become parts of URLs and file names, so nothing passes that the grammar does not name
// (CVE-2024-3727 for digests). Hosts are lower case afterwards, or "QUAY.IO/x" would pass a block of "quay.io".

import { isIPv4, isIPv6 } from "node:net";
import { UsageError } from "../../shared/error.ts";
import { digestSchema } from "../../shared/format/oci/digest.ts";

export interface RegistryReference {
  /** "quay.io", "localhost:5000", "[::1]:5000"; Docker Hub is "docker.io". */
  readonly host: string;
  /** "library/debian" */
  readonly repository: string;
  /** null only beside a digest. */
  readonly tag: string | null;
  /** "sha256:…" or "sha512:…"; wins over the tag when there are both. */
  readonly digest: string | null;
}

const DEFAULT_HOST = "docker.io";
const DEFAULT_TAG = "latest";
const MAX_HOST_CHARS = 255;
const MAX_REPOSITORY_CHARS = 255;
/** More than the parts can have together. */
const MAX_CHARS = 1024;
const LABEL = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/;
const NUMBER = /^(?:[0-9]+|0x[0-9a-f]*)$/;
const PATH_COMPONENT = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/;
const TAG = /^\w[\w.-]{0,127}$/;

/** UsageError. "debian" is docker.io/library/debian:latest; short names of this machine are `expandShortName`'s matter. */
export function parseRegistryReference(text: string): RegistryReference {
  const { name, tag, digest } = splitReference(text);
  const { host, path } = splitHost(name, text);
  return completeReference({ host: host ?? DEFAULT_HOST, path, tag, digest }, text);
}

/** As `parseRegistryReference`, but the first word is a host however it looks: "registry/debian" is at "registry". */
export function parseLocatedReference(text: string): RegistryReference {
  const { name, tag, digest } = splitReference(text);
  const slash = name.indexOf("/");
  if (slash < 0) throw bad(text, "it has a host and no repository");
  return completeReference(
    { host: name.slice(0, slash), path: name.slice(slash + 1), tag, digest },
    text,
  );
}

/**
 * "host[:port][/path…][:tag][@digest]", a namespace that images lie in: the host as in references, and the rest, which
 * is "" or begins with "/". UsageError.
 */
export function splitLocation(text: string): { readonly host: string; readonly rest: string } {
  refuseScheme(text);
  const slash = text.indexOf("/");
  if (slash < 0) return { host: normalizeHost(text, text), rest: "" };
  const host = normalizeHost(text.slice(0, slash), text);
  const rest = text.slice(slash);
  const { name } = splitReference(`${host}${rest}`);
  checkRepository(name.slice(host.length + 1), text);
  return { host, rest };
}

/** The name without a host, or null when `text` says which registry it means. UsageError when it is no reference. */
export function parseShortName(
  text: string,
): { readonly path: string; readonly tag: string | null; readonly digest: string | null } | null {
  const { name, tag, digest } = splitReference(text);
  const { host, path } = splitHost(name, text);
  if (host !== null) return null;
  checkRepository(path, text);
  return { path, tag, digest };
}

/** The image `path` at `host`, both unchecked; Docker Hub's "library/" is added. UsageError naming `text`. */
export function completeReference(
  parts: {
    readonly host: string;
    readonly path: string;
    readonly tag: string | null;
    readonly digest: string | null;
  },
  text: string,
): RegistryReference {
  const { tag, digest } = parts;
  const host = normalizeHost(parts.host, text);
  checkRepository(parts.path, text);
  const isOfficial = host === DEFAULT_HOST && !parts.path.includes("/");
  const repository = isOfficial ? `library/${parts.path}` : parts.path;
  return { host, repository, tag: tag ?? (digest === null ? DEFAULT_TAG : null), digest };
}

/** "host/repository[:tag][@digest]": what `parseRegistryReference` reads as the same reference. */
export function formatRegistryReference(reference: RegistryReference): string {
  const { host, repository, tag, digest } = reference;
  const end = `${tag === null ? "" : `:${tag}`}${digest === null ? "" : `@${digest}`}`;
  return `${host}/${repository}${end}`;
}

/** Checks "host[:port]" and gives it in lower case, Docker Hub under one name. UsageError naming `text`. */
export function normalizeHost(host: string, text: string): string {
  // toLowerCase would make ASCII of a few other letters.
  const lower = /^[\x21-\x7e]*$/.test(host) ? host.toLowerCase() : "";
  const [, name, port] = /^(\[[^\]]*\]|[^:[\]]*)(?::(.*))?$/s.exec(lower) ?? [];
  if (name === undefined || lower.length > MAX_HOST_CHARS || !isHostName(name)) {
    throw bad(text, `"${host}" is not a host name, with or without ":port"`);
  }
  if (
    port !== undefined &&
    !(/^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65535)
  ) {
    throw bad(text, `"${port}" is not a port; ports are numbers from 1 to 65535`);
  }
  return lower === "index.docker.io" ? DEFAULT_HOST : lower;
}

function isHostName(name: string): boolean {
  if (name.startsWith("[")) return isIPv6(name.slice(1, -1)) && !name.includes("%");
  const labels = name.split(".");
  // URLs take what ends in a number for an IPv4 address, in whatever spelling: "1.2" would be 1.0.0.2.
  if (NUMBER.test(labels.at(-1)!)) return isIPv4(name);
  return labels.every((label) => LABEL.test(label));
}

function refuseScheme(text: string): void {
  const scheme = /^[a-z]+:\/\//i.exec(text)?.[0];
  if (scheme !== undefined) {
    throw bad(text, `"${scheme}" does not belong to it; leave it out`);
  }
}

function splitReference(text: string): {
  readonly name: string;
  readonly tag: string | null;
  readonly digest: string | null;
} {
  if (text.length > MAX_CHARS) throw bad(text, `it is longer than ${MAX_CHARS} characters`);
  refuseScheme(text);
  const at = text.indexOf("@");
  const digest = at < 0 ? null : text.slice(at + 1);
  if (digest !== null && !digestSchema.safeParse(digest).success) {
    throw bad(
      text,
      `"${digest}" is not a digest; digests are "sha256:" and 64, or "sha512:" and 128, lower-case hex digits`,
    );
  }
  const rest = at < 0 ? text : text.slice(0, at);
  const colon = rest.indexOf(":", rest.lastIndexOf("/") + 1);
  const tag = colon < 0 ? null : rest.slice(colon + 1);
  if (tag !== null && !TAG.test(tag)) {
    throw bad(
      text,
      `"${tag}" is not a tag; tags are up to 128 letters, digits, "_", "." and "-", not beginning with "." or "-"`,
    );
  }
  return { name: colon < 0 ? rest : rest.slice(0, colon), tag, digest };
}

/** The first word is a host when it looks like one: it has a dot or a port, or is "localhost". */
function splitHost(
  name: string,
  text: string,
): { readonly host: string | null; readonly path: string } {
  const slash = name.indexOf("/");
  const first = name.slice(0, Math.max(slash, 0));
  if (slash < 0) return { host: null, path: name };
  if (/[.:]/.test(first) || first.toLowerCase() === "localhost") {
    return { host: first, path: name.slice(slash + 1) };
  }
  if (first !== first.toLowerCase()) {
    // distribution/reference takes this for a host; nobody who writes it means one.
    throw bad(text, `repository names are lower case; write "${name.toLowerCase()}"`);
  }
  return { host: null, path: name };
}

function checkRepository(repository: string, text: string): void {
  if (repository !== repository.toLowerCase()) {
    throw bad(text, `repository names are lower case; write "${repository.toLowerCase()}"`);
  }
  if (repository.length > MAX_REPOSITORY_CHARS) {
    throw bad(text, `the repository name is longer than ${MAX_REPOSITORY_CHARS} characters`);
  }
  if (/^[0-9a-f]{64}$/.test(repository)) {
    throw bad(text, `64 hex digits are an image ID, not a name; write the repository it came from`);
  }
  const wrong = repository.split("/").find((component) => !PATH_COMPONENT.test(component));
  if (wrong === undefined) return;
  throw bad(
    text,
    wrong === ""
      ? "a part of the name is empty"
      : `"${wrong}" is not a part of a repository name; parts are lower-case letters and digits with ".", "_", "__" or "-" between them`,
  );
}

function bad(text: string, reason: string): UsageError {
  const shown = text.length > MAX_CHARS ? `${text.slice(0, 100)}…` : text;
  return new UsageError("bad-value", `"${shown}" is not a valid name: ${reason}`);
}
