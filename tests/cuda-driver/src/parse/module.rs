//! A module's directives (PTX ISA 8.8, chapters 5 and 11): variables, functions, kernels.

use super::body;
use super::declaration::{Declaration, initial, parameters};
use super::listing::Listing;
use super::text::{Reader, joined, list, number, without_comments};
use crate::error::PtxError;
use std::collections::HashMap;

/// What a name of the module stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Symbol {
    /// An address of global or constant memory.
    Global(u64),
    /// An offset into shared memory.
    Shared(u64),
    /// Shared memory whose size the launch says: it begins behind the other.
    DynamicShared,
}

/// A function (`.func`): it is put into the kernels that call it.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) results: Vec<String>,
    pub(super) parameters: Vec<String>,
    /// Whether a result or parameter is an array.
    pub(super) has_arrays: bool,
    /// Text, and the line it begins at; nothing for a declaration alone.
    pub(super) body: Option<(String, usize)>,
}

/// What kernels find by name.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) symbols: HashMap<String, Symbol>,
    pub(super) functions: HashMap<String, Function>,
    /// Bytes of shared memory that the module names.
    pub(super) shared: usize,
}

/// A kernel whose body is not yet read.
struct Entry<'t> {
    header: &'t str,
    body: &'t str,
    line: usize,
}

/// The kernels of a module, and the memory of its variables.
pub(crate) fn listings(text: &str) -> Result<(Vec<Listing>, Vec<Vec<u128>>), PtxError> {
    let text = without_comments(text);
    let mut reader = Reader::new(&text, 1);
    let (mut names, mut entries, mut memory) = (Names::default(), Vec::new(), Vec::new());
    loop {
        let line = {
            reader.peek();
            reader.line
        };
        match item(&mut reader, &mut names, &mut entries, &mut memory) {
            Ok(true) => {}
            Ok(false) => break,
            Err(reason) => return Err(PtxError { place: "module".to_owned(), line, reason }),
        }
    }
    let kernels = entries.iter().map(|entry| kernel(entry, &names)).collect::<Result<_, _>>()?;
    Ok((kernels, memory))
}

/// Reads the next thing of a module; false at its end.
fn item<'t>(
    reader: &mut Reader<'t>,
    names: &mut Names,
    entries: &mut Vec<Entry<'t>>,
    memory: &mut Vec<Vec<u128>>,
) -> Result<bool, String> {
    let mut is_external = false;
    loop {
        let rest = reader.peek();
        let word = &rest[..rest.find(|c: char| c.is_whitespace() || c == ';').unwrap_or(rest.len())];
        match word {
            "" if rest.is_empty() => return Ok(false),
            ".version" | ".target" | ".address_size" | ".file" => {
                reader.take(rest.find('\n').unwrap_or(rest.len()));
            }
            // what debuggers read
            ".section" => {
                reader.until(&['{'])?;
                reader.body()?;
            }
            ".visible" | ".weak" | ".common" | ".extern" => {
                is_external |= word == ".extern";
                reader.take(word.len());
                continue;
            }
            ".global" | ".const" if !is_external => variable(reader.statement()?, names, memory)?,
            ".shared" => {
                let declaration = Declaration::parse(reader.statement()?)?;
                let symbol = match declaration.count {
                    None => Symbol::DynamicShared,
                    Some(_) => Symbol::Shared(declaration.place(&mut names.shared) as u64),
                };
                names.symbols.insert(declaration.name.to_owned(), symbol);
            }
            ".func" => function(reader, names)?,
            ".entry" => {
                reader.take(word.len());
                let header = reader.until(&['{'])?;
                let (body, line) = reader.body()?;
                entries.push(Entry { header, body, line });
            }
            _ => {
                return Err(format!(
                    "no such directive here: {}",
                    joined(&rest[..rest.find('\n').unwrap_or(rest.len())])
                ));
            }
        }
        return Ok(true);
    }
}

/// `.global .align 4 .b8 name[8] = {1, 2}`
fn variable(text: &str, names: &mut Names, memory: &mut Vec<Vec<u128>>) -> Result<(), String> {
    let (declaration, values) = text.split_once('=').unwrap_or((text, ""));
    let declaration = Declaration::parse(declaration)?;
    let values = initial(&declaration, values)?;
    names.symbols.insert(declaration.name.to_owned(), Symbol::Global(values.as_ptr() as u64));
    memory.push(values);
    Ok(())
}

/// Text before a parenthesis, in it, and behind it.
fn parenthesis(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('(')?;
    let (inside, behind) = rest.split_once(')')?;
    Some((before.trim(), inside, behind))
}

/// `.func (results) name (parameters) {...}`
fn function(reader: &mut Reader<'_>, names: &mut Names) -> Result<(), String> {
    reader.take(".func".len());
    let header = reader.until(&['{', ';'])?;
    let body = if reader.peek().starts_with('{') {
        Some(reader.body()?).map(|(text, line)| (text.to_owned(), line))
    } else {
        reader.take(1);
        None
    };
    let (results, rest) = match parenthesis(header) {
        Some(("", results, rest)) => (results, rest),
        _ => ("", header),
    };
    let (name, parameters, _) = parenthesis(rest).unwrap_or((rest.trim(), "", ""));
    let declared = |text| list(text).into_iter().map(Declaration::parse).collect::<Result<Vec<_>, _>>();
    let (results, parameters) = (declared(results)?, declared(parameters)?);
    let name_of = |declaration: &Declaration<'_>| declaration.name.to_owned();
    let function = Function {
        has_arrays: results.iter().chain(&parameters).any(|declaration| declaration.is_array),
        results: results.iter().map(name_of).collect(),
        parameters: parameters.iter().map(name_of).collect(),
        body,
    };
    // a declaration may stand before or after the function itself
    if function.body.is_some() || !names.functions.contains_key(name) {
        names.functions.insert(name.to_owned(), function);
    }
    Ok(())
}

/// Reads a kernel: `name(parameters) .reqntid x, y, z`, and its body.
fn kernel(entry: &Entry<'_>, names: &Names) -> Result<Listing, PtxError> {
    let (name, inside, directives) = parenthesis(entry.header).unwrap_or((entry.header.trim(), "", ""));
    let failed = |reason| PtxError { place: format!("kernel {name}"), line: entry.line, reason };
    let (named, parameter_bytes) = parameters(inside).map_err(failed)?;
    let listing = Listing {
        name: name.to_owned(),
        parameters: named.iter().map(|(_, parameter)| *parameter).collect(),
        parameter_bytes,
        required_block: required_block(directives).map_err(failed)?,
        ..Listing::default()
    };
    let offsets = named.iter().map(|(name, parameter)| (name.as_str(), parameter.offset));
    body::kernel(listing, offsets, entry.body, entry.line, names)
}

/// What stands between a kernel's parameters and its body: the block size it demands, and hints.
fn required_block(directives: &str) -> Result<Option<[u32; 3]>, String> {
    let mut required = None;
    for directive in joined(directives).split(" .").filter(|directive| !directive.is_empty()) {
        let (name, values) = directive.split_once(' ').unwrap_or((directive, ""));
        match name.trim_start_matches('.') {
            "reqntid" => {
                let mut block = [1; 3];
                let values: Vec<&str> = values.split(',').collect();
                for (value, size) in values.iter().zip(&mut block) {
                    *size = number(value).ok_or_else(|| format!(".reqntid {value} is not a number"))? as u32;
                }
                required = Some(block);
            }
            "maxntid" | "minnctapersm" | "maxnreg" | "noreturn" | "pragma" => {}
            other => return Err(format!("no such directive of a kernel: .{other}")),
        }
    }
    Ok(required)
}
