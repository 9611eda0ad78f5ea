package My::Suite::Keyward;

@ISA = qw(My::Suite);
use My::Platform;
use File::Path qw(mkpath);
use strict;

return "Not run for embedded server" if $::opt_embedded_server;
return "Needs the keyward plugin" unless $ENV{KEYWARD_SO};

# The command that belongs to the plugin.
my $command = $ENV{KEYWARD} || 'keyward';
return "Needs the command keyward: set KEYWARD or put it into PATH"
  unless `sh -c "command -v $command"`;

my $user = getpwuid($>);
$ENV{KEYWARD_CMD} = "$command --user=$user";

# What the combinations of have_keyward.inc start with. No test changes these keys.
my $dir = "$::opt_vardir/keyward";
$ENV{KEYWARD_DIR} = $dir;
umask(0077);
mkpath($dir);
for my $mode ('cbc', 'ctr') {
  my $init = "$ENV{KEYWARD_CMD} init --dir $dir/local-$mode --cipher aes-256-$mode";
  my $said = -e "$dir/local-$mode" ? '' : `$init 2>&1`;
  return "keyward init failed: $said" if $?;

  write_file("$dir/file-$mode.txt",
    "1;770A8A65DA156D24EE2A093277530142\n" .
    "2;4D92199549E0F2EF009B4160F3582E5528A11A45017F3EF81DF8F3C1A2B7E9D0\n");
  write_file("$dir/file-$mode.toml",
    "[[provider]]\nname = \"keys\"\ntype = \"file\"\n" .
    "path = \"$dir/file-$mode.txt\"\nmode = \"$mode\"\n");
}
umask(0022);

# Below `stable`, as a stable server says of it.
push @::global_suppressions, qr/Plugin 'keyward' is of maturity level/;

sub write_file {
  my ($path, $text) = @_;
  open(my $file, '>', $path) or die "cannot write $path: $!";
  print $file $text;
  close($file) or die "cannot write $path: $!";
}

sub skip_combinations {
  my %skip;
  $skip{'include/have_mariabackup.inc'} = 'Needs mariadb-backup' unless $ENV{XTRABACKUP};
  %skip;
}

sub is_default { 1 }

bless { };
