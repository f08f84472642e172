// Does the name that a signature gives an image fit the name under which it is fetched
// (containers-policy.json(5), "signedIdentity")? Without this a signed image could be passed off as
// another one of the same signer.

import { type DockerReference, parseDockerReference } from "./docker-reference.ts";
import type { SignedIdentity } from "./requirement.ts";

/**
 * `signed` is the "docker-reference" of the payload; `image` the name the image is fetched by, with a
 * tag or digest, null where its transport has none.
 */
export function matchesIdentity(
  identity: SignedIdentity,
  image: DockerReference | null,
  signed: string,
): boolean {
  const claim = parseDockerReference(signed);
  if (claim === null) return false;
  switch (identity.type) {
    case "matchExact":
      return image !== null && isComplete(image) && isSame(image, claim);
    case "matchRepoDigestOrExact":
      return image !== null && matchesTagOrRepository(image, claim);
    case "matchRepository":
      return image !== null && image.name === claim.name;
    case "exactReference": {
      const wanted = parseDockerReference(identity.dockerReference);
      return wanted !== null && isComplete(wanted) && isSame(wanted, claim);
    }
    case "exactRepository":
      return parseDockerReference(identity.dockerRepository)?.name === claim.name;
    case "remapIdentity": {
      const remapped = image === null ? null : remap(image, identity.prefix, identity.signedPrefix);
      return remapped !== null && matchesTagOrRepository(remapped, claim);
    }
  }
}

/** An image fetched by digest has no tag to compare; that digest is checked elsewhere. */
function matchesTagOrRepository(image: DockerReference, claim: DockerReference): boolean {
  if (!isComplete(claim)) return false;
  if (image.tag !== null) return isSame(image, claim);
  return image.digest !== null && image.name === claim.name;
}

/** "host" is a prefix of "host/a", not of "host:5000/a" or "hostess/a". */
function remap(image: DockerReference, prefix: string, signedPrefix: string) {
  const { name } = image;
  if (name !== prefix && !name.startsWith(`${prefix}/`)) return image;
  const remapped = parseDockerReference(`${signedPrefix}${name.slice(prefix.length)}`);
  return remapped === null ? null : { ...image, name: remapped.name };
}

function isComplete({ tag, digest }: DockerReference): boolean {
  return tag !== null || digest !== null;
}

function isSame(one: DockerReference, other: DockerReference): boolean {
  return one.name === other.name && one.tag === other.tag && one.digest === other.digest;
}
