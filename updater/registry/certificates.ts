// Certificates for single registries: certs.d (containers-certs.d(5)). In the directory HOST[:PORT]:
//
//   *.crt             certificate authorities (PEM), trusted in addition to the system's
//   X.cert, X.key     a client certificate with its key
//
// The first directory that exists counts alone. The port must be there exactly when image names have it.

import { createPrivateKey, X509Certificate } from "node:crypto";
import { join } from "node:path";
import { FormatError, StateError } from "../../shared/error.ts";
import {
  type ConfigPlace,
  listConfigDirectory,
  placePath,
  readConfigFile,
  userConfigDirectory,
} from "./config-place.ts";

export interface ClientCertificate {
  /** PEM; the certificate itself first, then what leads from it to its authority. */
  readonly certificate: string;
  /** PEM */
  readonly key: string;
  /** Of the certificate. */
  readonly path: string;
}

export interface RegistryCertificates {
  /** PEM texts. */
  readonly authorities: readonly string[];
  readonly clients: readonly ClientCertificate[];
  /** The directory they are from; null: there is none for this host. */
  readonly directory: string | null;
  /** Where one could be put, for advice: "/etc/containers/certs.d/quay.io". */
  readonly advisedDirectory: string;
}

/** `host` as in an `Endpoint`. FormatError or StateError naming the file and what to do. */
export function readCertificates(place: ConfigPlace, host: string): RegistryCertificates {
  const advisedDirectory = placePath(place, `/etc/containers/certs.d/${host}`);
  for (const base of certificateDirectories(place)) {
    const directory = join(base, host);
    const names = listConfigDirectory(directory);
    if (names === null) continue;
    return { ...readDirectory(directory, names), directory, advisedDirectory };
  }
  return { authorities: [], clients: [], directory: null, advisedDirectory };
}

/** Most important first. */
function certificateDirectories(place: ConfigPlace): readonly string[] {
  const user = userConfigDirectory(place);
  const { userId } = place;
  const special =
    userId === 0 ? ["certs.rootful.d"] : [`certs.rootless.d/${userId}`, "certs.rootless.d"];
  const system = ["/etc", "/usr/share"].flatMap((base) =>
    [...special, "certs.d"].map((name) => placePath(place, `${base}/containers/${name}`)),
  );
  return [
    ...(user === null ? [] : [join(user, "containers/certs.d")]),
    ...system,
    placePath(place, "/etc/docker/certs.d"),
  ];
}

function readDirectory(
  directory: string,
  names: readonly string[],
): Pick<RegistryCertificates, "authorities" | "clients"> {
  const orphan = names.find(
    (name) => /\.key$/.test(name) && !names.includes(withEnding(name, "cert")),
  );
  if (orphan !== undefined) {
    throw new StateError(
      "missing",
      `"${join(directory, orphan)}" has no client certificate beside it; add "${withEnding(orphan, "cert")}" or remove the key`,
      { path: join(directory, orphan) },
    );
  }
  return {
    authorities: names
      .filter((name) => name.endsWith(".crt"))
      .flatMap((name) => readAuthorities(join(directory, name))),
    clients: names
      .filter((name) => name.endsWith(".cert"))
      .map((name) => readClient(directory, name, names)),
  };
}

function withEnding(name: string, ending: string): string {
  return `${name.slice(0, name.lastIndexOf("."))}.${ending}`;
}

/** As text whatever it is, so that DER gets the advice about PEM; null when it is not there. */
function readPem(path: string): string | null {
  const bytes = readConfigFile(path);
  return bytes === null ? null : Buffer.from(bytes).toString("latin1");
}

/** Nothing for a dangling link. */
function readAuthorities(path: string): readonly string[] {
  const text = readPem(path);
  if (text === null) return [];
  checkCertificates(text, path);
  return [text];
}

function readClient(directory: string, name: string, names: readonly string[]): ClientCertificate {
  const path = join(directory, name);
  const keyName = withEnding(name, "key");
  const certificate = readPem(path);
  const key = names.includes(keyName) ? readPem(join(directory, keyName)) : null;
  if (certificate === null || key === null) {
    throw new StateError(
      "missing",
      `The client certificate "${path}" has no key; add "${keyName}" beside it (certificates of an authority end in ".crt")`,
      { path },
    );
  }
  const [first] = checkCertificates(certificate, path);
  checkKey(key, join(directory, keyName), first!, path);
  return { certificate, key, path };
}

/** The certificates of a PEM text, at least one. */
function checkCertificates(text: string, path: string): readonly X509Certificate[] {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) {
    throw malformed(
      path,
      `it has no PEM certificate; convert it with "openssl x509 -inform DER -in FILE -out FILE.crt"`,
    );
  }
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch {
      throw malformed(path, `certificate ${index + 1} is damaged; copy the file again`);
    }
  });
}

function checkKey(
  text: string,
  path: string,
  certificate: X509Certificate,
  certificatePath: string,
): void {
  if (/BEGIN ENCRYPTED PRIVATE KEY|^Proc-Type: 4,ENCRYPTED/m.test(text)) {
    throw malformed(path, `the key has a password; write it without one ("openssl pkey -in …")`);
  }
  let isPair: boolean;
  try {
    isPair = certificate.checkPrivateKey(createPrivateKey(text));
  } catch {
    // The cause may quote the file.
    throw malformed(path, "it has no private key that can be read (PEM)");
  }
  if (isPair) return;
  throw malformed(path, `the key is not that of "${certificatePath}"`);
}

function malformed(path: string, reason: string): FormatError {
  return new FormatError("bad-value", `Cannot use "${path}": ${reason}`, {
    format: "certs.d",
    path,
  });
}
