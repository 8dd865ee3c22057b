//! The layers of `src/`: what each module may import.
//!
//! The imports are read from the source, so that one that points upwards fails here, where the rule stands, and not
//! in a review.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, Item, UseTree,
    visit::{self, Visit},
};

/// The layers, from the lowest on: each may import those before it.
const LAYERS: [&str; 14] = [
    "sync",
    "protocol",
    "config",
    "auth",
    "limits",
    "memory",
    "telemetry",
    "transport",
    "store",
    "hub",
    "broker",
    "commands",
    "gateways",
    "server",
];

/// A module by its path, without the crate's name.
type Module = Vec<String>;

/// Every file of `src/` with what it imports of the crate, tests left out.
fn imports() -> BTreeMap<Module, BTreeSet<Module>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    assert!(files.len() > 100, "only {} files were found", files.len());
    let mut imports = BTreeMap::<_, BTreeSet<_>>::new();
    for file in files {
        let module = module_of(file.strip_prefix(&source).unwrap());
        if is_test_file(&module) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let parsed =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut reader = Reader { module: module.clone(), found: BTreeSet::new() };
        reader.visit_file(&parsed);
        imports.entry(module).or_default().extend(reader.found);
    }
    imports
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn module_of(file: &Path) -> Module {
    let mut module = file
        .with_extension("")
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect::<Vec<_>>();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// Files that only tests are built from: a directory or a file of tests, or a model that tests compare with.
fn is_test_file(module: &[String]) -> bool {
    module.iter().any(|part| part == "tests" || part.ends_with("_tests") || part == "model")
}

/// Reads the paths of the crate that a file names, but for those of its tests.
struct Reader {
    module: Module,
    found: BTreeSet<Module>,
}

impl Reader {
    /// Notes a path that begins with `crate`, `super` or `self`.
    fn note(&mut self, path: &[String]) {
        let mut base = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super") => {
                self.module.split_last().map_or_else(Vec::new, |(_, rest)| rest.to_vec())
            }
            Some("self") => self.module.clone(),
            _ => return,
        };
        for part in &path[1..] {
            match part.as_str() {
                "super" => drop(base.pop()),
                "self" => {}
                _ => base.push(part.clone()),
            }
        }
        self.found.insert(base);
    }

    fn note_tree(&mut self, path: &mut Module, tree: &UseTree) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.note_tree(path, &part.tree);
                path.pop();
            }
            UseTree::Group(group) => {
                for item in &group.items {
                    self.note_tree(path, item);
                }
            }
            UseTree::Name(name) => self.note_leaf(path, &name.ident.to_string()),
            UseTree::Rename(name) => self.note_leaf(path, &name.ident.to_string()),
            UseTree::Glob(_) => self.note(path),
        }
    }

    fn note_leaf(&mut self, path: &mut Module, name: &str) {
        path.push(name.to_owned());
        self.note(path);
        path.pop();
    }
}

fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if is_test_only(attributes) {
            return;
        }
        if let Item::Use(item) = item {
            return self.note_tree(&mut Vec::new(), &item.tree);
        }
        visit::visit_item(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts = path.segments.iter().map(|part| part.ident.to_string()).collect::<Vec<_>>();
        self.note(&parts);
        visit::visit_path(self, path);
    }
}

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|known| *known == layer)
}

#[test]
fn every_layer_imports_only_those_below_it() {
    let mut upwards = Vec::new();
    for (module, imports) in imports() {
        // The crate's root, and the process around it.
        let Some(layer) = module.first() else { continue };
        let own = rank(layer).unwrap_or_else(|| panic!("{layer} is no layer: add it to the list"));
        for import in imports {
            let Some(other) = import.first().and_then(|first| rank(first)) else { continue };
            if other > own {
                upwards.push(format!("{} imports {}", module.join("::"), import.join("::")));
            }
        }
    }
    assert!(upwards.is_empty(), "these imports point upwards: {upwards:#?}");
}

/// Within a layer, what is imported by way of the layer's own root is the root's affair.
#[test]
fn no_two_modules_of_a_layer_import_each_other_in_a_circle() {
    let imports = imports();
    for layer in LAYERS {
        let mut edges = BTreeMap::<String, BTreeSet<String>>::new();
        let parts = imports.keys().filter(|module| module.len() > 1 && module[0] == layer);
        let parts = parts.map(|module| module[1].clone()).collect::<BTreeSet<_>>();
        for (module, imports) in imports.iter().filter(|(module, _)| module.len() > 1) {
            for import in imports.iter().filter(|import| import.len() > 1) {
                let [same, other] = [module, import].map(|path| path[0] == layer);
                if same && other && module[1] != import[1] && parts.contains(&import[1]) {
                    edges.entry(module[1].clone()).or_default().insert(import[1].clone());
                }
            }
        }
        // What imports nothing that is left is taken away, until nothing is left: or a circle.
        let mut left = parts;
        loop {
            let free = |part: &String| edges.get(part).is_none_or(|to| to.is_disjoint(&left));
            let leaves = left.iter().filter(|part| free(part)).cloned().collect::<BTreeSet<_>>();
            if leaves.is_empty() {
                break;
            }
            left.retain(|part| !leaves.contains(part));
        }
        edges.retain(|from, to| {
            to.retain(|part| left.contains(part));
            left.contains(from)
        });
        assert!(left.is_empty(), "{layer} has a circle among {edges:#?}");
    }
}
