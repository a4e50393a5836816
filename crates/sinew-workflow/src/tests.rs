//! Tests of the crate as a whole. Those of the official documents need the folder `shared`: set `SINEW_SHARED` to it.

mod documents;

use std::path::PathBuf;

/// Finds a folder of shared test data, or says that its tests are skipped.
fn shared(folder: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("SINEW_SHARED") else {
        println!("skipped: set SINEW_SHARED to the folder that holds {folder}");
        return None;
    };
    Some(PathBuf::from(root).join(folder))
}
