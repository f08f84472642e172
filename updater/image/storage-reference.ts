// References of the `containers-storage:` transport (containers-transports(5)):
//
//   [[driver@]graph-root[+run-root][:options]] {image-id | name[:tag][@digest] | name[:tag]@image-id}
//
// where the outer brackets are really written. A name without a tag means "latest"; a few hex digits may be
// the beginning of an image's id, which only the store can tell.

import { UsageError } from "../../shared/error.ts";
import {
  formatRegistryReference,
  parseRegistryReference,
  type RegistryReference,
} from "../registry/reference.ts";

export interface StorageReference {
  /** Null: where storage.conf says. */
  readonly store: StoreSpecifier | null;
  /** 64 hex digits, or null. */
  readonly id: string | null;
  /** Null when only an id was given. */
  readonly name: RegistryReference | null;
  /** What may be the beginning of an id. */
  readonly shortId: string | null;
}

export interface StoreSpecifier {
  /** Null: the one that is there. */
  readonly driver: string | null;
  readonly graphRoot: string;
  /** "overlay.imagestore=/path" and the like, unparsed. */
  readonly options: readonly string[];
}

const ID = /^[0-9a-f]{64}$/;
const SHORT_ID = /^[0-9a-f]{3,63}$/;

/** UsageError when malformed. `image` is all after "containers-storage:". */
export function parseStorageReference(image: string): StorageReference {
  const [, specifier, rest = ""] = /^(?:\[([^\]]*)\])?(.*)$/s.exec(image) ?? [];
  const store = specifier === undefined || specifier === "" ? null : parseSpecifier(specifier);
  if (rest === "") throw bad(image, "it names no image");
  const at = rest.lastIndexOf("@");
  const last = rest.slice(at + 1);
  if (ID.test(last)) {
    const name = at < 0 ? null : parseRegistryReference(rest.slice(0, at));
    return { store, id: last, name, shortId: null };
  }
  const shortId = SHORT_ID.test(rest) ? rest : null;
  return { store, id: null, name: parseRegistryReference(rest), shortId };
}

function parseSpecifier(specifier: string): StoreSpecifier {
  const at = specifier.indexOf("@");
  const driver = at < 0 ? null : specifier.slice(0, at);
  const rest = specifier.slice(at + 1);
  const colon = rest.indexOf(":");
  const roots = colon < 0 ? rest : rest.slice(0, colon);
  const [graphRoot = ""] = roots.split("+");
  if (!graphRoot.startsWith("/")) {
    throw bad(`[${specifier}]`, `"${graphRoot}" is not an absolute path`);
  }
  if (driver !== null && !/^[a-z0-9]+$/.test(driver)) {
    throw bad(`[${specifier}]`, `"${driver}" is not a storage driver, e.g. "overlay"`);
  }
  const options = colon < 0 ? [] : rest.slice(colon + 1).split(",");
  return { driver, graphRoot, options: options.filter((option) => option !== "") };
}

/** "host/repository:tag", as images.json has it; null when the reference has only a digest. */
export function storedName(reference: RegistryReference): string | null {
  return reference.tag === null ? null : formatRegistryReference({ ...reference, digest: null });
}

function bad(text: string, reason: string): UsageError {
  return new UsageError(
    "bad-value",
    `"containers-storage:${text}" is no image reference: ${reason}`,
  );
}
