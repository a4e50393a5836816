//! Official and extension documents are accepted; wrong ones are refused with everything that is wrong.

use std::fs;

use expect_test::{Expect, expect};

use super::shared;
use crate::Definition;

#[test]
fn every_official_example_parses() {
    let Some(folder) = shared("open-workflow/examples") else { return };
    let mut failed = Vec::new();
    let mut count = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        count += 1;
        if let Err(diagnostics) = Definition::parse(&fs::read_to_string(&path).unwrap(), &name) {
            failed.push(diagnostics.to_string());
        }
    }
    assert_eq!((count, failed.join("\n").as_str()), (68, ""));
}

#[test]
fn both_spellings_of_the_extension_parse() {
    let Some(folder) = shared("workflow-extension") else { return };
    for name in ["place-order.yaml", "place-order.portable.yaml"] {
        let definition = Definition::parse(&fs::read_to_string(folder.join(name)).unwrap(), name).unwrap();
        assert!(definition.warnings().is_empty());
        assert_eq!(definition.reference().to_string(), "shop/place-order@1.0.0");
    }
}
