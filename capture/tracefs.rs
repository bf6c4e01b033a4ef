//! Where the kernel describes its events: tracefs, which is mounted at one of two places.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The usual place, and the one from before Linux 4.1, which some hosts still have alone.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const MISSING: &str = "tracefs is not mounted: mount -t tracefs nodev /sys/kernel/tracing (`ip netns exec` hides it: use \
                       nsenter --net)";
const FORBIDDEN: &str = "this user may not read /sys/kernel/tracing: CAP_DAC_READ_SEARCH, or a group by `mount -o \
                         remount,gid=`";

/// Its folder.
///
/// # Errors
/// Why there is none that can be read, and what to do about it.
pub fn root() -> Result<&'static Path, &'static str> {
    first(&PLACES)
}

/// The folder of its events.
///
/// # Errors
/// As [`root`].
pub fn events() -> Result<std::path::PathBuf, &'static str> {
    Ok(root()?.join("events"))
}

fn first<'a>(places: &[&'a str]) -> Result<&'a Path, &'static str> {
    let mut reason = None;
    for place in places.iter().copied().map(Path::new) {
        match fs::metadata(place.join("events")) {
            Ok(_) => return Ok(place),
            Err(error) => _ = reason.get_or_insert(error.kind()),
        }
    }
    Err(if reason == Some(ErrorKind::PermissionDenied) { FORBIDDEN } else { MISSING })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_place_is_as_good_and_none_has_a_remedy() {
        let folder = std::env::temp_dir().join(format!("tapedeck-tracefs-{}", std::process::id()));
        let (missing, there) = (folder.join("missing"), folder.join("there"));
        fs::create_dir_all(there.join("events")).expect("a folder for temporary files");
        let [missing, there] = [&missing, &there].map(|path| path.to_str().expect("plain"));
        assert_eq!(first(&[missing, there]), Ok(Path::new(there)));
        assert!(first(&[missing]).is_err_and(|reason| reason.contains("mount -t tracefs nodev")));
        fs::remove_dir_all(&folder).expect("our own folder");
    }
}
