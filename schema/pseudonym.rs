//! Pseudonyms: names and addresses that can be told apart but not read.
//!
//! A keyed hash gives the same pseudonym to the same name as long as the key is the same, so that two
//! traces made with one key file can be compared, and nothing can be looked up by hashing guesses
//! without the key. Both `capture` (while it records) and `analyze redact` (afterwards) use it.
//!
//! - A name becomes 16 hexadecimal digits. Slashes and the NULs between arguments stay, and each piece
//!   between them is hashed by itself: `/usr/bin/ls` still lies in the folder of `/usr/bin/cat`.
//! - Addresses keep prefixes: two addresses that share their first n bits share the first n bits of
//!   their pseudonyms (Crypto-PAn's construction), so that networks stay networks. IPv4 stays IPv4; the
//!   unspecified address and loopback stay as they are, and no other address becomes one of them.
//!
//! What a pseudonym cannot hide: how often a name occurs, when, and with what. Who knows some of the
//! traffic can guess who is who.

use super::error::{FormatError, Result};
use std::fs::File;
use std::io::Read as _;
use std::net::Ipv6Addr;
use std::path::Path;

/// A key shorter than this can be guessed.
const SHORTEST: usize = 16;
/// Nobody's key is longer; what is, is the wrong file.
const LONGEST: u64 = 1 << 16;
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// Gives pseudonyms by one key.
#[derive(Clone)]
pub struct Pseudonyms {
    names: [u8; 32],
    addresses: [u8; 32],
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Pseudonyms(a key)")
    }
}

impl Pseudonyms {
    /// By a key of any bytes, all of which count; names and addresses get keys of their own.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self {
            names: blake3::derive_key("tapedeck 2026 pseudonyms of names", key),
            addresses: blake3::derive_key("tapedeck 2026 pseudonyms of addresses", key),
        }
    }

    /// By the bytes of a key file (`(umask 077; head -c32 /dev/urandom >key)`), which only its owner may read.
    ///
    /// # Errors
    /// When it cannot be read, others can read it too, or it is too short to be a secret or too long to be a key.
    pub fn from_file(path: &Path) -> Result<Self> {
        let mut key = Vec::new();
        let file = File::open(path).map_err(FormatError::io("open the key file"))?;
        require_secret(&file, path)?;
        file.take(LONGEST + 1).read_to_end(&mut key).map_err(FormatError::io("read the key file"))?;
        if key.len() < SHORTEST || key.len() as u64 > LONGEST {
            return Err(FormatError::Key {
                path: path.display().to_string(),
                expected: format!("{SHORTEST} to {LONGEST} bytes"),
                found: key.len(),
            });
        }
        Ok(Self::new(&key))
    }

    /// By a key that nobody knows and that is gone with this value: pseudonyms of this run only.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random() -> Result<Self> {
        let mut key = [0; 32];
        let source = "read /dev/urandom";
        let mut file = File::open("/dev/urandom").map_err(FormatError::io(source))?;
        file.read_exact(&mut key).map_err(FormatError::io(source))?;
        Ok(Self::new(&key))
    }

    /// The pseudonym of a name, a path, or arguments with a NUL after each. Nothing stays nothing.
    #[must_use]
    pub fn name(&self, name: &[u8]) -> Vec<u8> {
        let mut to = Vec::with_capacity(name.len().max(16));
        for piece in name.split_inclusive(|byte| is_separator(*byte)) {
            let (word, separator) = match piece.split_last() {
                Some((&last, word)) if is_separator(last) => (word, Some(last)),
                _ => (piece, None),
            };
            if !word.is_empty() {
                to.extend(&blake3::keyed_hash(&self.names, word).to_hex().as_bytes()[..16]);
            }
            to.extend(separator);
        }
        to
    }

    /// The pseudonym of an address, IPv4 as `::ffff:a.b.c.d`.
    #[must_use]
    pub fn address(&self, address: [u8; 16]) -> [u8; 16] {
        if is_kept(address) {
            return address;
        }
        let first = if is_v4(address) { 96 } else { 0 };
        let taken = |pseudonym| is_kept(pseudonym) || is_v4(pseudonym) != is_v4(address);
        // One to one on all addresses, so walking on from one that is taken ends at one that is free.
        let mut pseudonym = self.permute(address, first);
        while taken(pseudonym) {
            pseudonym = self.permute(pseudonym, first);
        }
        pseudonym
    }

    /// Flips each bit from `first` on or not, depending on the key and the bits before it.
    fn permute(&self, address: [u8; 16], first: u32) -> [u8; 16] {
        let bits = u128::from_be_bytes(address);
        let flip = |at: u32| {
            let prefix = bits.checked_shr(128 - at).unwrap_or(0);
            let mut input = [0; 17];
            input[..16].copy_from_slice(&prefix.to_be_bytes());
            input[16] = at as u8;
            u128::from(blake3::keyed_hash(&self.addresses, &input).as_bytes()[0] & 1) << (127 - at)
        };
        (bits ^ (first..128).fold(0, |flips, at| flips | flip(at))).to_be_bytes()
    }
}

/// A key that others can read hides nothing from them.
fn require_secret(file: &File, path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let about = file.metadata().map_err(FormatError::io("look at the key file"))?;
        let mode = about.permissions().mode() & 0o777;
        if about.is_file() && mode & 0o077 != 0 {
            return Err(FormatError::KeyIsNoSecret { path: path.display().to_string(), mode });
        }
    }
    Ok(())
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'/' | 0)
}

fn is_v4(address: [u8; 16]) -> bool {
    address[..12] == MAPPED
}

fn is_kept(address: [u8; 16]) -> bool {
    let address = Ipv6Addr::from(address).to_canonical();
    address.is_unspecified() || address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn of(key: &[u8]) -> Pseudonyms {
        Pseudonyms::new(key)
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).expect("hexadecimal digits and separators")
    }

    #[test]
    fn a_path_keeps_its_shape_and_equal_names_stay_equal() {
        let p = of(b"a key of sixteen");
        let (ls, cat) = (p.name(b"/usr/bin/ls"), p.name(b"/usr/bin/cat"));
        assert_eq!(ls.len(), 3 * 17);
        assert_eq!(ls[..34], cat[..34], "one folder");
        assert_ne!(ls, cat);
        assert_eq!(text(&ls).split('/').nth(3), Some(text(&p.name(b"ls"))));
        assert_eq!(text(&p.name(b"sh\0-c\0")).matches('\0').count(), 2);
        assert_eq!((p.name(b""), p.name(b"/")), (Vec::new(), b"/".to_vec()));
        assert_eq!(p.name(b"\xff\x1b[2J").len(), 16, "bytes of any kind");
        assert_ne!(p.name(b"ls"), of(b"another key of s").name(b"ls"));
    }

    #[test]
    fn a_pseudonym_is_the_same_on_every_machine_and_in_every_version() {
        let p = of(b"0123456789abcdef");
        assert_eq!(text(&p.name(b"nginx")), "89f2ff6bff45346f");
        let v4 =
            Ipv6Addr::from(p.address("::ffff:10.0.0.1".parse::<Ipv6Addr>().expect("an address").octets()));
        assert_eq!(v4.to_string(), "::ffff:233.138.194.6");
    }

    #[test]
    fn no_two_addresses_of_a_network_meet() {
        let p = of(b"a key of sixteen");
        let of = |last: u16| {
            let [a, b] = last.to_be_bytes();
            p.address([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, a, b])
        };
        let all: HashSet<[u8; 16]> = (0..4096).map(of).collect();
        assert_eq!(all.len(), 4096);
        let networks: HashSet<&[u8]> = all.iter().map(|address| &address[..15]).collect();
        assert_eq!(networks.len(), 16, "sixteen networks of 256 stay sixteen");
    }

    #[test]
    fn a_key_file_that_is_no_secret_is_refused() {
        let path = std::env::temp_dir().join(format!("tapedeck-key-{}", std::process::id()));
        let set_mode = |path: &Path, mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, mode).expect("our own file");
        };
        std::fs::write(&path, b"short").expect("the temporary folder takes a file");
        set_mode(&path, 0o600);
        let error = Pseudonyms::from_file(&path).expect_err("five bytes");
        assert!(error.to_string().contains("expected 16 to 65536 bytes, found 5"), "{error}");
        std::fs::write(&path, [7; 32]).expect("the temporary folder takes a file");
        set_mode(&path, 0o640);
        let error = Pseudonyms::from_file(&path).expect_err("a group may read it").to_string();
        assert!(error.contains("mode 640") && error.contains("chmod 600 "), "{error}");
        set_mode(&path, 0o600);
        let p = Pseudonyms::from_file(&path).expect("a key");
        assert_eq!(p.name(b"x"), of(&[7; 32]).name(b"x"));
        std::fs::remove_file(&path).expect("it is still there");
        assert_ne!(
            Pseudonyms::random().expect("randomness").name(b"x"),
            Pseudonyms::random().expect("randomness").name(b"x")
        );
    }

    proptest! {
        #[test]
        fn prefixes_are_kept(a in any::<u128>(), b in any::<u128>(), shared in 0u32..=128, v4 in any::<bool>()) {
            let p = of(b"a key of sixteen");
            let mask = u128::MAX.checked_shr(shared).unwrap_or(0);
            let family = |x: u128| if v4 { 0xffff_0000_0000 | x & 0xffff_ffff } else { x | 1 << 125 };
            let (a, b) = (family(a), family(a & !mask | b & mask));
            let (pa, pb) = (p.address(a.to_be_bytes()), p.address(b.to_be_bytes()));
            prop_assert_eq!(is_v4(pa), v4);
            let walked = |x: u128, y: [u8; 16]| p.permute(x.to_be_bytes(), if v4 { 96 } else { 0 }) != y;
            if !walked(a, pa) && !walked(b, pb) {
                let (pa, pb) = (u128::from_be_bytes(pa), u128::from_be_bytes(pb));
                prop_assert_eq!((pa ^ pb).leading_zeros(), (a ^ b).leading_zeros());
            }
        }

        #[test]
        fn loopback_and_nothing_else_stays(a in any::<u32>()) {
            let p = of(b"a key of sixteen");
            let a = std::net::Ipv4Addr::from(a);
            let pseudonym = Ipv6Addr::from(p.address(a.to_ipv6_mapped().octets())).to_canonical();
            prop_assert_eq!(pseudonym.is_loopback(), a.is_loopback());
            prop_assert_eq!(pseudonym.is_unspecified(), a.is_unspecified());
        }
    }
}
