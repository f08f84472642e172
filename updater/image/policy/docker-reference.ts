// Names of images as registries have them, for policies: "busybox" stands for
// "docker.io/library/busybox" (distribution/reference). A missing tag stays missing: a policy tells a
// repository from a tag in it, so nothing may be completed here.

export interface DockerReference {
  /** Domain and path, "docker.io/library/busybox". */
  readonly name: string;
  readonly tag: string | null;
  readonly digest: string | null;
}

const DEFAULT_DOMAIN = "docker.io";
const DOMAIN_PART = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const DOMAIN = `(?:${DOMAIN_PART}(?:\\.${DOMAIN_PART})*|\\[(?:[a-fA-F0-9:]+)\\])(?::[0-9]+)?`;
const PATH_PART = "[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*";
const NAME_PATTERN = new RegExp(`^${DOMAIN}(?:/${PATH_PART})+$`);
const PREFIX_PATTERN = new RegExp(`^${DOMAIN}(?:/${PATH_PART})*$`);
const TAG_PATTERN = /^\w[\w.-]{0,127}$/;
const DIGEST_PATTERN = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;
const MAX_NAME_LENGTH = 255;

/** Null when it is no reference. */
export function parseDockerReference(text: string): DockerReference | null {
  if (/^[a-f0-9]{64}$/.test(text)) return null;
  const at = text.indexOf("@");
  const digest = at < 0 ? null : text.slice(at + 1);
  const rest = at < 0 ? text : text.slice(0, at);
  const colon = rest.lastIndexOf(":");
  const hasTag = colon > rest.lastIndexOf("/");
  const tag = hasTag ? rest.slice(colon + 1) : null;
  const name = expandName(hasTag ? rest.slice(0, colon) : rest);
  if (!NAME_PATTERN.test(name) || name.length > MAX_NAME_LENGTH) return null;
  if (tag !== null && !TAG_PATTERN.test(tag)) return null;
  if (digest !== null && !DIGEST_PATTERN.test(digest)) return null;
  return { name, tag, digest };
}

export function formatDockerReference({ name, tag, digest }: DockerReference): string {
  return `${name}${tag === null ? "" : `:${tag}`}${digest === null ? "" : `@${digest}`}`;
}

/** A host with port, a namespace or a repository, written in full, as policies name many images. */
export function isReferencePrefix(text: string): boolean {
  return PREFIX_PATTERN.test(text);
}

function expandName(name: string): string {
  const slash = name.indexOf("/");
  const first = slash < 0 ? "" : name.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === "localhost" || first !== first.toLowerCase();
  const domain = !isHost || first === "index.docker.io" ? DEFAULT_DOMAIN : first;
  const path = isHost ? name.slice(slash + 1) : name;
  return domain === DEFAULT_DOMAIN && !path.includes("/")
    ? `${domain}/library/${path}`
    : `${domain}/${path}`;
}
