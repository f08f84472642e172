// Image references: a transport and a name in it (bootc.md 1.5, 4.2).
//
// Three spellings: `transport:name` as skopeo writes it ("docker://…" for registries), the form in
// origin files ("ostree-unverified-image:docker://…", which also says how signatures are checked),
// and the fields of the Host document, where a registry is called "registry".

import { UsageError } from "../../shared/error.ts";

export type Transport =
  | "registry"
  | "oci"
  | "oci-archive"
  | "docker-archive"
  | "docker-daemon"
  | "containers-storage"
  | "dir";

export type ImageSignature = { readonly ostreeRemote: string } | "containerPolicy" | "insecure";

export interface ImageReference {
  readonly transport: Transport;
  /** What the transport understands: "quay.io/x/y:tag", "/path/to/layout:tag". */
  readonly image: string;
  /** Absent: whatever the system's policy.json says. */
  readonly signature?: ImageSignature;
}

const TRANSPORTS: ReadonlySet<string> = new Set<Transport>([
  "registry",
  "oci",
  "oci-archive",
  "docker-archive",
  "docker-daemon",
  "containers-storage",
  "dir",
]);

/** From separate words, e.g. `--transport oci /path`. UsageError when either is wrong. */
export function makeImageReference(transport: string, image: string): ImageReference {
  const name = transport === "docker" ? "registry" : transport;
  if (!isTransport(name)) {
    throw new UsageError(
      "bad-value",
      `Unknown transport "${transport}"; known are ${[...TRANSPORTS].join(", ")}`,
    );
  }
  // Origin files are lines of text.
  if (image === "" || /[\0-\x1f\x7f]/.test(image)) {
    throw new UsageError("bad-value", `"${image}" is not an image name`);
  }
  return { transport: name, image };
}

/** `oci:/path`, `docker://quay.io/x/y`, `registry:quay.io/x/y`. UsageError when malformed. */
export function parseTransportReference(text: string): ImageReference {
  const colon = text.indexOf(":");
  if (colon < 0) {
    throw new UsageError("bad-value", `"${text}" is not of the form "transport:image"`);
  }
  const transport = text.slice(0, colon);
  const rest = text.slice(colon + 1);
  if (transport !== "docker") return makeImageReference(transport, rest);
  if (!rest.startsWith("//")) {
    throw new UsageError("bad-value", `"${text}" should begin with "docker://"`);
  }
  return makeImageReference("registry", rest.slice(2));
}

/** The inverse of `parseTransportReference`. */
export function formatTransportReference({ transport, image }: ImageReference): string {
  return transport === "registry" ? `docker://${image}` : `${transport}:${image}`;
}

/** The value of `container-image-reference` in an origin file. UsageError when malformed. */
export function parseOriginReference(text: string): ImageReference {
  const colon = text.indexOf(":");
  const scheme = text.slice(0, Math.max(colon, 0));
  const rest = text.slice(colon + 1);
  switch (scheme) {
    case "ostree-unverified-image":
      return parseTransportReference(rest);
    case "ostree-unverified-registry":
      return makeImageReference("registry", rest);
    case "ostree-image-signed":
      return { ...parseTransportReference(rest), signature: "containerPolicy" };
    case "ostree-remote-image":
    case "ostree-remote-registry": {
      const [, remote, image] = /^([^:]+):(.*)$/s.exec(rest) ?? [];
      if (remote === undefined || image === undefined) break;
      const reference =
        scheme === "ostree-remote-image"
          ? parseTransportReference(image)
          : makeImageReference("registry", image);
      return { ...reference, signature: { ostreeRemote: remote } };
    }
  }
  throw new UsageError("bad-value", `"${text}" is not an image reference of an origin file`);
}

/** As written to origin files. */
export function formatOriginReference(reference: ImageReference): string {
  const name = formatTransportReference(reference);
  const { signature } = reference;
  if (signature === "containerPolicy") return `ostree-image-signed:${name}`;
  if (typeof signature === "object") {
    return reference.transport === "registry"
      ? `ostree-remote-registry:${signature.ostreeRemote}:${reference.image}`
      : `ostree-remote-image:${signature.ostreeRemote}:${name}`;
  }
  return `ostree-unverified-image:${name}`;
}

/** For people: the bare name for plain registries, else the origin form in its short spelling. */
export function displayReference(reference: ImageReference): string {
  if (reference.transport !== "registry") return formatOriginReference(reference);
  if (reference.signature === undefined) return reference.image;
  return reference.signature === "insecure"
    ? `ostree-unverified-registry:${reference.image}`
    : formatOriginReference(reference);
}

function isTransport(name: string): name is Transport {
  return TRANSPORTS.has(name);
}
