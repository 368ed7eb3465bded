"""What several features paint with: tokens, theme, type, icons, avatars, words for times, small widgets."""
