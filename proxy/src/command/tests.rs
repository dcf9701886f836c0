use clap::error::ErrorKind;

use super::*;

fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
    let arguments = ["weft-proxy"].iter().chain(arguments);
    Command::of(&definition().try_get_matches_from(arguments)?)
}

#[test]
fn the_commands_are_well_formed() {
    definition().debug_assert();
}

#[test]
fn without_a_command_it_is_the_sidecar() {
    let command = parse(&["--manifests", "/m", "--namespace", "shop"]).unwrap();
    let Command::Run(config) = command else { panic!("{command:?}") };
    assert_eq!(config.namespace, "shop");
    let error = parse(&["--manifests", "/m"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{error}");
}

#[test]
fn commands_need_nothing_of_what_the_sidecar_needs() {
    assert!(matches!(parse(&["explain", "http://reviews/"]), Ok(Command::Explain(_))));
    assert!(matches!(parse(&["check", "/m"]), Ok(Command::Check(_))));
    for (arguments, expected) in [
        (&["explain"][..], ErrorKind::MissingRequiredArgument),
        (&["explain", "GET", "http://a/", "http://b/"], ErrorKind::TooManyValues),
        (&["explain", "--namespace", "shop", "http://a/"], ErrorKind::MissingRequiredArgument),
        (&["explain", "--manifests", "/m", "--namespace", "No", "a"], ErrorKind::ValueValidation),
        (&["check"], ErrorKind::MissingRequiredArgument),
        (&["verify"], ErrorKind::InvalidSubcommand),
    ] {
        let error = parse(arguments).unwrap_err();
        assert_eq!(error.kind(), expected, "{arguments:?}: {error}");
    }
}

#[test]
fn help_tells_of_the_commands() {
    let help = definition().render_long_help().to_string();
    for part in ["Instead of running:", "explain  Says why", "check    Says what", "--namespace"] {
        assert!(help.contains(part), "{help}");
    }
    let mut definition = definition();
    let help = definition.find_subcommand_mut("explain").unwrap().render_long_help().to_string();
    assert!(help.contains("\n  kubectl exec POD -c weft-proxy -- \\\n"), "{help}");
}
