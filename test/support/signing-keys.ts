// Keys and certificates for tests of signatures: GPG keys in every state, cosign's key pairs, and in place of
// the public Sigstore (no test talks to the Internet) an authority and a transparency log of our own.

import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runImageTool } from "./image-tools.ts";

export const PASSPHRASE = "of the test";

/** Runs a shell script of the image tools root in `directory`. */
export async function runScript(
  directory: string,
  script: string,
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  return await runImageTool([
    ...["env", ...variables, "sh", "-euc"],
    ...[`cd "$1"; ${script}`, "sh", directory],
  ]);
}

export interface GpgKeys {
  readonly home: string;
  /** Exported keyring, binary: `<name>.gpg`; armored: `<name>.asc`. */
  readonly keyring: (name: string, kind?: "gpg" | "asc") => string;
  readonly fingerprint: (name: string) => string;
}

/** "good", "other", "expired" (in 2020) and "revoked". */
export async function makeGpgKeys(directory: string): Promise<GpgKeys> {
  const home = join(directory, "gnupg");
  mkdirSync(home, { mode: 0o700 });
  const create = (name: string, days: string) =>
    `gpg --batch --quiet --passphrase '' --quick-gen-key '${name} <${name}@example.com>' ed25519 sign ${days}`;
  const exportKey = (name: string) =>
    [
      `gpg --export ${name}@example.com > ${name}.gpg`,
      `gpg --armor --export ${name}@example.com > ${name}.asc`,
      `gpg --with-colons --list-keys ${name}@example.com | awk -F: '/^fpr/{print $10; exit}' > ${name}.fpr`,
    ].join("; ");
  const script = [
    create("good", "never"),
    create("other", "never"),
    create("revoked", "never"),
    // gpg tells the time that it is told, so that the key has expired since.
    create("expired", "30d").replace("gpg ", "gpg --faked-system-time 20200101T000000 "),
    ...["good", "other", "expired", "revoked"].map(exportKey),
  ].join("; ");
  await runScript(directory, script, { GNUPGHOME: home });
  return {
    home,
    keyring: (name, kind = "gpg") => join(directory, `${name}.${kind}`),
    fingerprint: (name) => readFileSync(join(directory, `${name}.fpr`), "utf8").trim(),
  };
}

/** Exports "revoked" once more, with its revocation. What it signed before stays signed. */
export async function revokeKey(directory: string, keys: GpgKeys): Promise<void> {
  const name = "revoked";
  const certificate = join(keys.home, "openpgp-revocs.d", `${keys.fingerprint(name)}.rev`);
  const script = [
    `sed 's/^:---/---/' ${certificate} > revocation.asc`,
    "gpg --batch --quiet --import revocation.asc",
    `gpg --export ${name}@example.com > ${name}.gpg`,
  ].join("; ");
  await runScript(directory, script, { GNUPGHOME: keys.home });
}

/** Ends gpg's agent, which outlives the commands. */
export async function stopGpg(keys: GpgKeys): Promise<void> {
  await runImageTool(["env", `GNUPGHOME=${keys.home}`, "gpgconf", "--kill", "all"]);
}

export interface CosignKey {
  /** Encrypted with PASSPHRASE. */
  readonly privatePath: string;
  readonly publicPath: string;
}

export async function makeCosignKey(directory: string, name: string): Promise<CosignKey> {
  await runScript(directory, `cosign generate-key-pair --output-key-prefix ${name}`, {
    COSIGN_PASSWORD: PASSPHRASE,
  });
  return {
    privatePath: join(directory, `${name}.key`),
    publicPath: join(directory, `${name}.pub`),
  };
}

export interface KeyPair {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly publicPath: string;
}

/** A key whose private half the test uses itself. */
export function makeKeyPair(
  directory: string,
  name: string,
  type: "ec" | "ed25519" | "rsa" = "ec",
): KeyPair {
  const pair =
    type === "ec"
      ? generateKeyPairSync("ec", { namedCurve: "P-256" })
      : type === "rsa"
        ? generateKeyPairSync("rsa", { modulusLength: 2048 })
        : generateKeyPairSync("ed25519");
  const publicPath = join(directory, `${name}.pub`);
  writeFileSync(publicPath, pair.publicKey.export({ type: "spki", format: "pem" }));
  return { ...pair, publicPath };
}

export interface CertificateRequest {
  /** Subject alternative name as openssl writes it: "email:a@b", "URI:https://…". */
  readonly subject: string;
  readonly issuer?: string;
  readonly usage?: string;
  /** YYYYMMDDHHMMSSZ */
  readonly notBefore: string;
  readonly notAfter: string;
  /** Lines for openssl's extension section. */
  readonly extra?: string;
}

export interface SignerCertificate {
  readonly privateKey: KeyObject;
  readonly pem: string;
}

export interface Authority {
  /** PEM of the root. */
  readonly path: string;
  /** PEM of what stands between the root and signers. */
  readonly chain: string;
  issue(request: CertificateRequest): Promise<SignerCertificate>;
}

/** As Fulcio: a root, an intermediate, and short-lived certificates with the OIDC issuer in them. */
export async function makeAuthority(directory: string, name: string): Promise<Authority> {
  const at = (file: string) => join(directory, `${name}-${file}`);
  const long = "-not_before 20200101000000Z -not_after 20400101000000Z";
  const ca = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign";
  writeFileSync(at("ca.ext"), `${ca}\nsubjectKeyIdentifier=hash`);
  const key = (file: string) =>
    `openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ${at(file)}`;
  const request = (file: string, subject: string) =>
    `openssl req -new -key ${at(`${file}.key`)} -subj '${subject}' -out ${at(`${file}.csr`)}`;
  await runScript(
    directory,
    [
      key("root.key"),
      request("root", `/O=${name}/CN=root`),
      `openssl x509 -req -in ${at("root.csr")} -signkey ${at("root.key")} ${long} -extfile ${at("ca.ext")} -out ${at("root.pem")}`,
      key("between.key"),
      request("between", `/O=${name}/CN=intermediate`),
      `openssl x509 -req -in ${at("between.csr")} -CA ${at("root.pem")} -CAkey ${at("root.key")} ${long} -extfile ${at("ca.ext")} -out ${at("between.pem")}`,
    ].join("; "),
  );
  let serial = 1;
  return {
    path: at("root.pem"),
    chain: readFileSync(at("between.pem"), "utf8") + readFileSync(at("root.pem"), "utf8"),
    async issue({ subject, issuer, usage = "codeSigning", notBefore, notAfter, extra = "" }) {
      const file = `leaf-${serial++}`;
      const oidc =
        issuer === undefined
          ? ""
          : `1.3.6.1.4.1.57264.1.1=DER:${Buffer.from(issuer).toString("hex")}\n1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:${issuer}`;
      const extensions = `subjectAltName=critical,${subject}\nextendedKeyUsage=${usage}\nkeyUsage=critical,digitalSignature\n${oidc}\n${extra}\n`;
      writeFileSync(at(`${file}.ext`), extensions);
      await runScript(
        directory,
        [
          key(`${file}.key`),
          request(file, "/"),
          `openssl x509 -req -in ${at(`${file}.csr`)} -CA ${at("between.pem")} -CAkey ${at("between.key")} -not_before ${notBefore} -not_after ${notAfter} -extfile ${at(`${file}.ext`)} -out ${at(`${file}.pem`)}`,
        ].join("; "),
      );
      return {
        privateKey: createPrivateKey(readFileSync(at(`${file}.key`))),
        pem: readFileSync(at(`${file}.pem`), "utf8"),
      };
    },
  };
}
